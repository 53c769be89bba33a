#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "crypto/sealed_stream.h"
#include "io/aligned_buffer.h"
#include "storage/object_store.h"

namespace holdfast::storage {

/// The key that an object is encrypted with; null for one that stays as it is. Called from any
/// thread.
using KeyOfObject = std::function<const crypto::SecretKey*(const ObjectKey&)>;

/// Objects of another store, encrypted: each is one sealed stream (crypto/sealed_stream.h) bound to
/// its key. Callers see plain bytes and plain sizes. A get fetches only the chunks around what it
/// wants; what was changed, cut, moved or never encrypted is refused (kDataCorrupted).
///
/// What is read of an object's header is remembered, so that many gets of one object ask once.
class SealedStore : public ObjectStore {
 public:
  /// What `keys` gives outlives the store.
  SealedStore(std::unique_ptr<ObjectStore> store, KeyOfObject keys)
      : store_(std::move(store)), keys_(std::move(keys)) {}

  PutResult put(const ObjectKey& key, ByteView bytes, PutMode mode, const Stop& stop) override;
  bool get_into(const ObjectKey& key, std::uint64_t offset, MutableByteView into,
                const Stop& stop) override;
  std::optional<ObjectInfo> stat(const ObjectKey& key, const Stop& stop) override;
  /// Objects whose size no sealed object has are listed with the size they have.
  void list(const ObjectKey& prefix, const std::function<void(const ObjectInfo&)>& visit,
            const Stop& stop) override;
  std::vector<std::string> list_directories(const ObjectKey& prefix, const Stop& stop) override {
    return store_->list_directories(prefix, stop);
  }
  void remove(const ObjectKey& key, const Stop& stop) override;
  std::string description() const override { return store_->description(); }

 private:
  /// Memory for one sealed object; used again, because the kernel's clearing of new pages costs as
  /// much as encrypting them. Aligned, so that a store can write it past the page cache.
  using Buffer = io::AlignedBuffer;
  class Borrowed;
  using Stream = std::shared_ptr<const crypto::SealedStream>;  // the last reader may outlive known_
  struct Known {
    std::optional<std::uint64_t> sealed_bytes;
    Stream stream;  // null until the header was read
  };

  Known known(const ObjectKey& key) const;
  void remember(const ObjectKey& key, const Known& what);
  void forget(const ObjectKey& key);
  /// Null when the object is absent.
  Stream read_header(const ObjectKey& key, const crypto::SecretKey& secret, const Stop& stop);
  bool read(const ObjectKey& key, const crypto::SealedStream& stream, std::uint64_t offset,
            MutableByteView into, const Stop& stop);
  /// Reads the header and the object's beginning in one request; absent when that cannot be done.
  std::optional<bool> read_beginning(const ObjectKey& key, const crypto::SecretKey& secret,
                                     std::uint64_t sealed_bytes, MutableByteView into,
                                     const Stop& stop);

  const std::unique_ptr<ObjectStore> store_;
  const KeyOfObject keys_;
  mutable Mutex mutex_;
  // Guarded by mutex_:
  std::map<ObjectKey, Known> known_ HF_GUARDED_BY(mutex_);
  std::vector<Buffer> buffers_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::storage
