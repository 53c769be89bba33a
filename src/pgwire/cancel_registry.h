#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/mutex.h"
#include "pgwire/session_handle.h"

namespace holdfast::pgwire {

/// Finds the session that a cancel request means by its key: the process number and secret of a
/// BackendKeyData message, as they lie in it. Thread-safe.
class CancelRegistry {
 public:
  void add(ByteView key, std::shared_ptr<SessionHandle> session);
  void remove(ByteView key, const SessionHandle& session);
  /// Null when no session has this key.
  std::shared_ptr<SessionHandle> find(ByteView key) const;

 private:
  mutable Mutex mutex_;
  std::map<std::string, std::shared_ptr<SessionHandle>, std::less<>> sessions_
      HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::pgwire
