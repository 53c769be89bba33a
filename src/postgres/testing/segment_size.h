#pragma once

#include <cstdint>

namespace holdfast::postgres::testing {

/// The smallest WAL segment that initdb makes, in bytes, so that a test crosses many of them.
inline constexpr std::uint64_t kSmallSegment = 1U << 20;
/// What initdb makes by default.
inline constexpr std::uint64_t kDefaultSegment = 16U << 20;

}  // namespace holdfast::postgres::testing
