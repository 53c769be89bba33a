#include "pgwire/cancel_registry.h"

namespace holdfast::pgwire {

void CancelRegistry::add(ByteView key, std::shared_ptr<SessionHandle> session) {
  MutexLock lock(mutex_);
  sessions_.insert_or_assign(std::string(as_text(key)), std::move(session));
}

void CancelRegistry::remove(ByteView key, const SessionHandle& session) {
  MutexLock lock(mutex_);
  // After a restart PostgreSQL may have given the same key to a newer session.
  const auto found = sessions_.find(as_text(key));
  if (found != sessions_.end() && found->second.get() == &session) sessions_.erase(found);
}

std::shared_ptr<SessionHandle> CancelRegistry::find(ByteView key) const {
  MutexLock lock(mutex_);
  const auto found = sessions_.find(as_text(key));
  return found == sessions_.end() ? nullptr : found->second;
}

}  // namespace holdfast::pgwire
