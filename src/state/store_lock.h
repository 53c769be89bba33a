#pragma once

#include <filesystem>

#include "base/unique_fd.h"

namespace holdfast::state {

/// Keeps a store directory to one daemon. Held through flock(2) on `DIR/LOCK`, so the kernel gives
/// it back when the process dies in whatever way; the file (with the owner's process id, for people
/// and for the error message) stays.
class StoreLock {
 public:
  /// Throws kObjectInUse, naming the process, while another one holds the lock.
  explicit StoreLock(const std::filesystem::path& store);

 private:
  UniqueFd file_;
};

}  // namespace holdfast::state
