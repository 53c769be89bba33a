#include "storage/memory_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "storage/keys.h"

namespace holdfast::storage {

PutResult MemoryStore::put(const ObjectKey& key, ByteView bytes, PutMode mode, const Stop& stop) {
  stop.check();
  check_key(key);
  check_size(key, bytes);
  const MutexLock lock(mutex_);
  const auto found = objects_.find(key);
  if (found != objects_.end() && mode == PutMode::OnlyIfAbsent) return PutResult::Taken;
  objects_[key] = Bytes(bytes.begin(), bytes.end());
  return PutResult::Stored;
}

bool MemoryStore::get_into(const ObjectKey& key, std::uint64_t offset, MutableByteView into,
                           const Stop& stop) {
  stop.check();
  check_key(key);
  const MutexLock lock(mutex_);
  const auto found = objects_.find(key);
  if (found == objects_.end()) return false;
  const Bytes& bytes = found->second;
  if (offset > bytes.size() || into.size() > bytes.size() - offset) {
    throw too_short(key, offset, into.size());
  }
  std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), into.size(), into.begin());
  return true;
}

std::optional<ObjectInfo> MemoryStore::stat(const ObjectKey& key, const Stop& stop) {
  stop.check();
  check_key(key);
  const MutexLock lock(mutex_);
  const auto found = objects_.find(key);
  if (found == objects_.end()) return std::nullopt;
  return ObjectInfo{.key = key, .size = found->second.size()};
}

void MemoryStore::list(const ObjectKey& prefix, const std::function<void(const ObjectInfo&)>& visit,
                       const Stop& stop) {
  stop.check();
  check_prefix(prefix);
  const std::string start = prefix.empty() ? "" : prefix + "/";
  std::vector<ObjectInfo> found;
  {
    const MutexLock lock(mutex_);
    for (auto object = objects_.lower_bound(start);
         object != objects_.end() && object->first.starts_with(start); ++object) {
      found.push_back({.key = object->first, .size = object->second.size()});
    }
  }
  for (const ObjectInfo& info : found) visit(info);
}

std::vector<std::string> MemoryStore::list_directories(const ObjectKey& prefix, const Stop& stop) {
  const std::size_t start = prefix.empty() ? 0 : prefix.size() + 1;
  std::set<std::string> names;
  list(
      prefix,
      [&](const ObjectInfo& info) {
        const std::size_t slash = info.key.find('/', start);
        if (slash != std::string::npos) names.insert(info.key.substr(start, slash - start));
      },
      stop);
  return {names.begin(), names.end()};
}

void MemoryStore::remove(const ObjectKey& key, const Stop& stop) {
  stop.check();
  check_key(key);
  const MutexLock lock(mutex_);
  objects_.erase(key);
}

}  // namespace holdfast::storage
