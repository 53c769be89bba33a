#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "storage/object_store.h"

namespace holdfast::storage {

/// Objects in this process's memory, for tests.
class MemoryStore : public ObjectStore {
 public:
  explicit MemoryStore(std::string description = "memory://") : description_(description) {}

  PutResult put(const ObjectKey& key, ByteView bytes, PutMode mode, const Stop& stop) override;
  bool get_into(const ObjectKey& key, std::uint64_t offset, MutableByteView into,
                const Stop& stop) override;
  std::optional<ObjectInfo> stat(const ObjectKey& key, const Stop& stop) override;
  void list(const ObjectKey& prefix, const std::function<void(const ObjectInfo&)>& visit,
            const Stop& stop) override;
  std::vector<std::string> list_directories(const ObjectKey& prefix, const Stop& stop) override;
  void remove(const ObjectKey& key, const Stop& stop) override;
  std::string description() const override { return description_; }

 private:
  const std::string description_;
  Mutex mutex_;
  std::map<ObjectKey, Bytes> objects_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::storage
