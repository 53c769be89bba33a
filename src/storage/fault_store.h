#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/mutex.h"
#include "storage/object_store.h"

namespace holdfast::storage {

enum class StoreCall { Put, Get, Stat, List, ListDirectories, Remove };

enum class FaultKind {
  Fail,       ///< throws without doing anything (the request was lost)
  FailAfter,  ///< does it, then throws (the answer was lost)
  Stall,      ///< waits until a stop is requested
  Truncate,   ///< put: stores only the first `position` bytes and says Stored
  Flip,  ///< put, get: flips the lowest bit of byte `position` (counted from the end if negative)
  Lie    ///< put, remove: does nothing and says it did; get, stat: says there is no such object
};

struct StoreFault {
  StoreCall call = StoreCall::Put;
  FaultKind kind = FaultKind::Fail;
  std::string key_pattern = "*";  ///< fnmatch(3) without flags: "*" crosses "/"
  unsigned nth = 1;               ///< counted from 1 over the matching calls since add()
  unsigned times = 1;             ///< how many calls are hit from there on
  std::int64_t position = 0;
  Error error{sqlstate::kIoError, "injected storage failure"};
};

/// A store for tests that does what another does, except for the faults added to it.
class FaultStore : public ObjectStore {
 public:
  explicit FaultStore(std::unique_ptr<ObjectStore> store) : store_(std::move(store)) {}

  void add(StoreFault fault);
  /// Calls of this kind so far.
  unsigned calls(StoreCall call) const;

  PutResult put(const ObjectKey& key, ByteView bytes, PutMode mode, const Stop& stop) override;
  bool get_into(const ObjectKey& key, std::uint64_t offset, MutableByteView into,
                const Stop& stop) override;
  std::optional<ObjectInfo> stat(const ObjectKey& key, const Stop& stop) override;
  void list(const ObjectKey& prefix, const std::function<void(const ObjectInfo&)>& visit,
            const Stop& stop) override;
  std::vector<std::string> list_directories(const ObjectKey& prefix, const Stop& stop) override;
  void remove(const ObjectKey& key, const Stop& stop) override;
  std::string description() const override { return store_->description(); }

 private:
  struct Armed {
    StoreFault fault;
    unsigned seen = 0;
  };
  /// Counts the call; the fault that hits it, if any. Stalls and failures beforehand happen here.
  std::optional<StoreFault> enter(StoreCall call, const ObjectKey& key, const Stop& stop);

  const std::unique_ptr<ObjectStore> store_;
  mutable Mutex mutex_;
  std::vector<Armed> faults_ HF_GUARDED_BY(mutex_);
  unsigned calls_[6] HF_GUARDED_BY(mutex_) = {};
};

}  // namespace holdfast::storage
