#include "collection/wal_tail.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.h"
#include "base/error.h"
#include "base/log.h"
#include "collection/format.h"
#include "collection/names_internal.h"
#include "collection/wal_object_internal.h"
#include "postgres/lsn.h"

namespace holdfast::collection {

using storage::ObjectKey;
using storage::ObjectStore;

namespace {

/// What a tail of a few megabytes packs to.
constexpr std::size_t kUsualTailBytes = 2U << 20;

/// All of a segment's objects begin with this; its tails go on with '.'.
std::string segment_prefix(const WalSegmentId& id) {
  return fmt::format("{}/{}", wal_timeline_directory(id.system_identifier, id.timeline),
                     postgres::wal_segment_name(id.timeline, id.segment, id.segment_bytes));
}

}  // namespace

ObjectKey wal_tail_key(const WalSegmentId& id, std::uint64_t bytes) {
  return fmt::format("{}.{}{}", segment_prefix(id), inverted_hex(bytes), kWalTailSuffix);
}

bool put_wal_tail(ObjectStore& store, const WalSegmentId& id, std::uint64_t bytes,
                  const ReadWal& read, const Compression& compression, const Stop& stop) {
  HF_ASSERT(bytes > 0 && bytes < id.segment_bytes);
  if (bytes > kWalPartBytes) return false;
  const ObjectKey key = wal_tail_key(id, bytes);
  FrameEncoder encoder(compression);
  PackBuilder builder(kUsualTailBytes);
  builder.reset(0, wal_object_uuid(key));
  Bytes plain(kFrameBytes);
  for (std::uint64_t at = 0; at < bytes; at += kFrameBytes) {
    stop.check();
    const MutableByteView frame(plain.data(), std::min<std::uint64_t>(kFrameBytes, bytes - at));
    read(at, frame);
    builder.add(encoder, 0, static_cast<std::uint32_t>(at / kFrameBytes), frame);
  }
  put_wal_object(store, key, builder, stop);
  return true;
}

std::vector<std::uint64_t> list_wal_tails(ObjectStore& store, const WalSegmentId& id,
                                          const Stop& stop) {
  if (!id.directory.empty()) return {};  // a layer's own WAL has whole segments only
  const std::string directory = wal_timeline_directory(id.system_identifier, id.timeline);
  const std::string prefix = segment_prefix(id) + '.';
  std::vector<std::uint64_t> lengths;
  store.list(
      directory,
      [&](const storage::ObjectInfo& info) {
        std::string_view name = info.key;
        if (!name.starts_with(prefix) || !name.ends_with(kWalTailSuffix)) return;
        name.remove_prefix(prefix.size());
        name.remove_suffix(kWalTailSuffix.size());
        const auto length = parse_inverted_hex(name);
        // Anybody may have made up the name; who reads one has room for a segment.
        if (length && *length <= id.segment_bytes) lengths.push_back(*length);
      },
      stop);
  std::sort(lengths.rbegin(), lengths.rend());
  return lengths;
}

bool get_wal_tail(ObjectStore& store, const WalSegmentId& id, std::uint64_t bytes,
                  const WalWriter& write, const Stop& stop) {
  std::uint64_t at = 0;
  const ObjectKey key = wal_tail_key(id, bytes);
  const auto got = get_wal_object(
      store, key, std::min(bytes, kWalPartBytes),
      [&](ByteView frame) {
        write(at, frame);
        at += frame.size();
      },
      stop);
  if (got && *got != bytes) {
    throw Error(sqlstate::kDataCorrupted, fmt::format("WAL object \"{}\" is corrupt", key))
        .detail(fmt::format("It holds {} bytes instead of {}.", *got, bytes));
  }
  return got.has_value();
}

void remove_wal_tails(ObjectStore& store, const WalSegmentId& id, std::uint64_t bytes,
                      const Stop& stop) {
  try {
    for (const std::uint64_t length : list_wal_tails(store, id, stop)) {
      if (length < bytes) store.remove(wal_tail_key(id, length), stop);
    }
  } catch (const Error& error) {
    log::warning("could not remove WAL that the archive has twice: {}", error.message());
  }
}

}  // namespace holdfast::collection
