#include "storage/object_store.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "storage/keys.h"

namespace holdfast::storage {

namespace {

bool is_key(std::string_view key) {
  while (true) {
    const std::size_t slash = key.find('/');
    const std::string_view part = key.substr(0, slash);
    if (part.empty() || part == "." || part == ".." || part.find('\0') != part.npos) return false;
    if (slash == key.npos) return true;
    key.remove_prefix(slash + 1);
  }
}

}  // namespace

void check_key(const ObjectKey& key) {
  if (is_key(key)) return;
  throw Error(sqlstate::kInvalidParameterValue, fmt::format("invalid object name \"{}\"", key))
      .detail("A name has no leading or trailing \"/\" and no empty, \".\" or \"..\" part.");
}

void check_prefix(const ObjectKey& prefix) {
  if (!prefix.empty()) check_key(prefix);
}

void check_size(const ObjectKey& key, ByteView bytes) {
  if (bytes.size() <= kMaxObjectBytes) return;
  throw Error(sqlstate::kInvalidParameterValue,
              fmt::format("object \"{}\" of {} bytes is larger than the {} allowed", key,
                          bytes.size(), kMaxObjectBytes));
}

Error too_short(const ObjectKey& key, std::uint64_t offset, std::uint64_t length) {
  return Error(sqlstate::kDataCorrupted,
               fmt::format("object \"{}\" ends before byte {}", key, offset + length));
}

std::optional<Bytes> get_whole(ObjectStore& store, const ObjectKey& key, std::uint64_t limit,
                               const Stop& stop) {
  Bytes bytes;
  const auto whole = get_whole(store, key, limit, bytes, stop);
  if (!whole) return std::nullopt;
  bytes.resize(whole->size());
  return bytes;
}

std::optional<ByteView> get_whole(ObjectStore& store, const ObjectKey& key, std::uint64_t limit,
                                  Bytes& memory, const Stop& stop) {
  const std::optional<ObjectInfo> info = store.stat(key, stop);
  if (!info) return std::nullopt;
  if (info->size > limit) {
    throw Error(sqlstate::kDataCorrupted,
                fmt::format("object \"{}\" has {} bytes, more than the {} allowed", key, info->size,
                            limit));
  }
  if (memory.size() < info->size) memory.resize(info->size);
  const MutableByteView bytes = MutableByteView(memory).first(info->size);
  // Objects are immutable, so one that has gone in between was removed, as a whole.
  if (!bytes.empty() && !store.get_into(key, 0, bytes, stop)) return std::nullopt;
  return bytes;
}

bool remove_if_allowed(ObjectStore& store, const ObjectKey& key, const Stop& stop) {
  try {
    store.remove(key, stop);
    return true;
  } catch (const Error& error) {
    if (error.state() != sqlstate::kInsufficientPrivilege) throw;
    log::debug("object stays: {}", error.message());
    return false;
  }
}

}  // namespace holdfast::storage
