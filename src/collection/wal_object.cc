#include "collection/wal_object_internal.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "collection/format.h"
#include "collection/pack_internal.h"

namespace holdfast::collection {

using storage::ObjectKey;
using storage::ObjectStore;

namespace {

bool same_content(const std::vector<FrameEntry>& left, const std::vector<FrameEntry>& right) {
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [](const FrameEntry& a, const FrameEntry& b) {
                      return a.plain_bytes == b.plain_bytes && a.hash == b.hash;
                    });
}

Error corrupt_wal(const ObjectKey& key, std::string_view why) {
  return Error(sqlstate::kDataCorrupted, fmt::format("WAL object \"{}\" is corrupt", key))
      .detail(std::string(why));
}

/// Goes through the frames of an object, in order: `take` is told where each begins and how many
/// bytes it has, and calls what it is given with a place for them, which fills it, verified.
/// Returns all plain bytes, at most `limit`.
template <typename Take>
std::uint64_t unpack(ByteView object, const ObjectKey& key, std::uint64_t limit, const Take& take,
                     const Stop& stop) {
  const OpenedPack pack = parse_pack(object, key);
  if (pack.uuid != wal_object_uuid(key)) throw corrupt_wal(key, "It belongs to another place.");
  check_pack_header(object, pack.summary.number, pack.uuid, key);
  FrameDecoder decoder;
  std::uint64_t done = 0;
  for (const FrameEntry& entry : pack.entries) {
    stop.check();
    if (entry.file_id != 0 || entry.frame != done / kFrameBytes || done % kFrameBytes != 0 ||
        entry.plain_bytes > limit - done || entry.plain_bytes > kFrameBytes) {
      throw corrupt_wal(key, "Its frames are not in order.");
    }
    take(done, entry.plain_bytes, [&](MutableByteView plain) {
      decoder.decode(entry, object.subspan(entry.offset, entry.stored_bytes), plain, key);
    });
    done += entry.plain_bytes;
  }
  return done;
}

}  // namespace

BackupUuid wal_object_uuid(const ObjectKey& key) { return to_bytes(hash128(as_bytes(key))); }

std::uint64_t put_wal_object(ObjectStore& store, const ObjectKey& key, PackBuilder& builder,
                             const Stop& stop) {
  const PackSummary summary = builder.finish();
  if (store.put(key, builder.bytes(), storage::PutMode::OnlyIfAbsent, stop) ==
      storage::PutResult::Stored) {
    return summary.size;
  }
  const OpenedPack there = open_pack(store, key, stop);
  if (there.uuid != wal_object_uuid(key) || !same_content(there.entries, builder.entries())) {
    throw Error(sqlstate::kDuplicateFile,
                fmt::format("WAL archive already has a different \"{}\"", key))
        .detail(
            "Two servers with the same system identifier and timeline write to one collection, or "
            "the server's WAL was reset.")
        .hint("Give each server a collection of its own; after pg_resetwal, start a new one.");
  }
  return there.summary.size;
}

std::optional<std::uint64_t> get_wal_object(ObjectStore& store, const ObjectKey& key,
                                            MutableByteView into, Bytes& object, const Stop& stop) {
  const auto stored = get_whole(store, key, storage::kMaxObjectBytes, object, stop);
  if (!stored) return std::nullopt;
  return unpack(
      *stored, key, into.size(),
      [&](std::uint64_t at, std::size_t bytes, const auto& fill) { fill(into.subspan(at, bytes)); },
      stop);
}

std::optional<std::uint64_t> get_wal_object(ObjectStore& store, const ObjectKey& key,
                                            std::uint64_t limit,
                                            const std::function<void(ByteView)>& write,
                                            const Stop& stop) {
  const std::optional<Bytes> object = get_whole(store, key, storage::kMaxObjectBytes, stop);
  if (!object) return std::nullopt;
  Bytes plain(kFrameBytes);
  return unpack(
      *object, key, limit,
      [&](std::uint64_t, std::size_t bytes, const auto& fill) {
        const MutableByteView frame(plain.data(), bytes);
        fill(frame);
        write(frame);
      },
      stop);
}

}  // namespace holdfast::collection
