#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/stop.h"

namespace holdfast::storage {

/// The most that one object may hold. Objects are whole and bounded, so that a put can be repeated
/// from its start and drivers stay small.
inline constexpr std::uint64_t kMaxObjectBytes = 128ULL << 20;

/// A path inside a store, with "/" between its parts: no leading or trailing "/", no empty, "." or
/// ".." part. Drivers refuse any other (kInvalidParameterValue).
using ObjectKey = std::string;

struct ObjectInfo {
  ObjectKey key;
  std::uint64_t size = 0;
};

enum class PutMode { OnlyIfAbsent, Overwrite };
/// Taken is possible only with PutMode::OnlyIfAbsent: an object of that name was there, and is
/// unchanged.
enum class PutResult { Stored, Taken };

/// A place for immutable objects. All methods may be called from several threads at once. Failures
/// throw Error with the object's key in the message; Error::retry_is_safe() says whether the same
/// call may be made again.
class ObjectStore {
 public:
  virtual ~ObjectStore() = default;

  /// Stores all of `bytes` durably, or nothing.
  virtual PutResult put(const ObjectKey& key, ByteView bytes, PutMode mode, const Stop& stop) = 0;

  /// Fills `into` with the bytes at `offset`. False if there is no such object. Throws
  /// kDataCorrupted if the object ends before `offset + into.size()`. The caller's buffer saves a
  /// copy, and can be used again.
  virtual bool get_into(const ObjectKey& key, std::uint64_t offset, MutableByteView into,
                        const Stop& stop) = 0;

  /// Absent if there is no such object.
  virtual std::optional<ObjectInfo> stat(const ObjectKey& key, const Stop& stop) = 0;

  /// Calls `visit` once per object whose key starts with `prefix` + "/" (every object, for an empty
  /// prefix), at any depth, on this thread, in no promised order. An absent prefix lists nothing.
  virtual void list(const ObjectKey& prefix, const std::function<void(const ObjectInfo&)>& visit,
                    const Stop& stop) = 0;

  /// The names directly below `prefix` that are themselves prefixes ("directories"), without
  /// listing what is in them; sorted.
  virtual std::vector<std::string> list_directories(const ObjectKey& prefix, const Stop& stop) = 0;

  /// Removing an absent object succeeds.
  virtual void remove(const ObjectKey& key, const Stop& stop) = 0;

  /// Where this is, for messages, with secrets redacted: "nodelocal://1/backups".
  virtual std::string description() const = 0;
};

/// The whole object, at most `limit` bytes of it (kDataCorrupted beyond); absent if there is no
/// such object.
std::optional<Bytes> get_whole(ObjectStore& store, const ObjectKey& key, std::uint64_t limit,
                               const Stop& stop);

/// The same in `memory`, of which the result is a view: it grows to what is needed, and using it
/// again for the next object saves the kernel clearing pages.
std::optional<ByteView> get_whole(ObjectStore& store, const ObjectKey& key, std::uint64_t limit,
                                  Bytes& memory, const Stop& stop);

/// Removes it where that is allowed. False where the storage forbids it (write-once, object lock, a
/// policy without the right to delete): the object stays, and nothing may depend on its absence.
bool remove_if_allowed(ObjectStore& store, const ObjectKey& key, const Stop& stop);

}  // namespace holdfast::storage
