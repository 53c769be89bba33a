#pragma once

#include "base/unique_fd.h"

namespace holdfast::net {

/// Wakes a thread that polls. signal() may be called from any thread.
class Wake {
 public:
  Wake();
  void signal();
  /// Forgets the signals so far.
  void clear();
  /// Readable after signal().
  int fd() const { return event_.get(); }

 private:
  UniqueFd event_;
};

}  // namespace holdfast::net
