#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"

namespace holdfast::restore {

/// Threads that a restore may be told to work with.
inline constexpr std::size_t kMaxWorkers = 64;

/// What a job keeps of itself; `what` names it in the error, "checkpoint". Throws kDataCorrupted.
template <typename Message>
Message parse_record(ByteView bytes, std::string_view what) {
  Message message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    throw Error(sqlstate::kDataCorrupted, fmt::format("could not read the {} of the job", what));
  }
  return message;
}

}  // namespace holdfast::restore
