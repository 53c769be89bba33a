#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/stop.h"
#include "sql/options.h"
#include "storage/object_store.h"

namespace holdfast::statements {

/// How much CHECK EXTERNAL CONNECTION does: until `bytes` were written and read or `time` is over.
struct CheckLimits {
  std::optional<std::uint64_t> bytes;
  std::optional<std::chrono::milliseconds> time;
  std::size_t workers = 1;
};

/// From transfer (32 MiB when neither it nor time is given), time and concurrently. Throws
/// kInvalidParameterValue.
CheckLimits check_limits(const sql::Options& options);

struct CheckResult {
  std::optional<std::string> error;  ///< why it does not work; absent when it does
  std::uint64_t transferred = 0;     ///< bytes written and read back, each
  std::uint64_t read_bytes_per_second = 0;
  std::uint64_t write_bytes_per_second = 0;
  bool can_delete = false;
};

/// Writes objects under names that nothing else has, reads them back, compares, and removes them as
/// far as the storage allows. A storage that fails is a result, not an exception. Throws Stopped.
CheckResult check_connection(storage::ObjectStore& store, const CheckLimits& limits,
                             const Stop& stop);

/// "32 MiB"
std::string show_bytes(std::uint64_t bytes);

}  // namespace holdfast::statements
