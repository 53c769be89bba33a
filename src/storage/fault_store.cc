#include "storage/fault_store.h"

#include <fnmatch.h>

#include <algorithm>
#include <chrono>

namespace holdfast::storage {

namespace {

void flip(MutableByteView bytes, std::int64_t position) {
  const auto size = static_cast<std::int64_t>(bytes.size());
  const std::int64_t at = position < 0 ? size + position : position;
  if (at >= 0 && at < size) bytes[static_cast<std::size_t>(at)] ^= std::byte{1};
}

}  // namespace

void FaultStore::add(StoreFault fault) {
  const MutexLock lock(mutex_);
  faults_.push_back({.fault = std::move(fault)});
}

unsigned FaultStore::calls(StoreCall call) const {
  const MutexLock lock(mutex_);
  return calls_[static_cast<std::size_t>(call)];
}

std::optional<StoreFault> FaultStore::enter(StoreCall call, const ObjectKey& key,
                                            const Stop& stop) {
  std::optional<StoreFault> found;
  {
    const MutexLock lock(mutex_);
    ++calls_[static_cast<std::size_t>(call)];
    for (Armed& armed : faults_) {
      const StoreFault& fault = armed.fault;
      if (fault.call != call || ::fnmatch(fault.key_pattern.c_str(), key.c_str(), 0) != 0) continue;
      ++armed.seen;
      if (!found && armed.seen >= fault.nth && armed.seen - fault.nth < fault.times) found = fault;
    }
  }
  if (!found) return found;
  if (found->kind == FaultKind::Fail) throw found->error;
  while (found->kind == FaultKind::Stall) stop.sleep(std::chrono::hours(1));
  return found;
}

PutResult FaultStore::put(const ObjectKey& key, ByteView bytes, PutMode mode, const Stop& stop) {
  const std::optional<StoreFault> fault = enter(StoreCall::Put, key, stop);
  if (!fault) return store_->put(key, bytes, mode, stop);
  Bytes changed(bytes.begin(), bytes.end());
  switch (fault->kind) {
    case FaultKind::Lie:
      return PutResult::Stored;
    case FaultKind::Truncate:
      changed.resize(std::min(changed.size(), static_cast<std::size_t>(fault->position)));
      break;
    case FaultKind::Flip:
      flip(changed, fault->position);
      break;
    default:
      break;
  }
  const PutResult result = store_->put(key, changed, mode, stop);
  if (fault->kind == FaultKind::FailAfter) throw fault->error;
  return result;
}

bool FaultStore::get_into(const ObjectKey& key, std::uint64_t offset, MutableByteView into,
                          const Stop& stop) {
  const std::optional<StoreFault> fault = enter(StoreCall::Get, key, stop);
  if (fault && fault->kind == FaultKind::Lie) return false;
  const bool found = store_->get_into(key, offset, into, stop);
  if (fault && fault->kind == FaultKind::FailAfter) throw fault->error;
  if (fault && fault->kind == FaultKind::Flip) flip(into, fault->position);
  return found;
}

std::optional<ObjectInfo> FaultStore::stat(const ObjectKey& key, const Stop& stop) {
  const std::optional<StoreFault> fault = enter(StoreCall::Stat, key, stop);
  if (fault && fault->kind == FaultKind::Lie) return std::nullopt;
  std::optional<ObjectInfo> info = store_->stat(key, stop);
  if (fault && fault->kind == FaultKind::FailAfter) throw fault->error;
  return info;
}

void FaultStore::list(const ObjectKey& prefix, const std::function<void(const ObjectInfo&)>& visit,
                      const Stop& stop) {
  const std::optional<StoreFault> fault = enter(StoreCall::List, prefix, stop);
  store_->list(prefix, visit, stop);
  if (fault && fault->kind == FaultKind::FailAfter) throw fault->error;
}

std::vector<std::string> FaultStore::list_directories(const ObjectKey& prefix, const Stop& stop) {
  const std::optional<StoreFault> fault = enter(StoreCall::ListDirectories, prefix, stop);
  std::vector<std::string> names = store_->list_directories(prefix, stop);
  if (fault && fault->kind == FaultKind::FailAfter) throw fault->error;
  return names;
}

void FaultStore::remove(const ObjectKey& key, const Stop& stop) {
  const std::optional<StoreFault> fault = enter(StoreCall::Remove, key, stop);
  if (fault && fault->kind == FaultKind::Lie) return;
  store_->remove(key, stop);
  if (fault && fault->kind == FaultKind::FailAfter) throw fault->error;
}

}  // namespace holdfast::storage
