#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/stop.h"
#include "collection/frame.h"
#include "manifest.pb.h"
#include "postgres/timeline_path.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// Names one WAL segment of one cluster.
struct WalSegmentId {
  std::uint64_t system_identifier = 0;
  std::uint32_t timeline = 0;
  std::uint64_t segment = 0;        ///< start LSN / segment_bytes
  std::uint64_t segment_bytes = 0;  ///< wal_segment_size, a power of two from 1 MiB to 1 GiB
  /// Of a layer that keeps WAL of its own: below where it is; empty: in the collection's archive.
  std::string directory{};
};

/// A segment that a manifest lists, in the archive or in the layer's own directory.
WalSegmentId wal_segment_of(const proto::Manifest& manifest, const proto::WalSegment& segment);
/// The key of the object with which the segment exists.
storage::ObjectKey wal_segment_key(const WalSegmentId& id);

/// Fills `into` with the segment's bytes at `offset`.
using ReadWal = std::function<void(std::uint64_t offset, MutableByteView into)>;
/// Takes the segment's bytes, in order and without gaps.
using WalWriter = std::function<void(std::uint64_t offset, ByteView bytes)>;

/// Archives one whole segment. An archive that has it already is left as it is if the content is
/// the same; otherwise throws kDuplicateFile: two different clusters write to one collection.
/// Returns the stored bytes of all its objects.
///
/// `before_last` is called before the object is put with which the segment appears.
std::uint64_t put_wal_segment(storage::ObjectStore& store, const WalSegmentId& id,
                              const ReadWal& read, const Compression& compression, const Stop& stop,
                              const std::function<void()>& before_last = {});
/// From a file of exactly `id.segment_bytes` (kDataCorrupted otherwise).
std::uint64_t put_wal_segment_file(storage::ObjectStore& store, const WalSegmentId& id,
                                   const std::string& path, const Compression& compression,
                                   const Stop& stop);

/// False when the archive lacks it. Every frame is verified before it is handed to `write`; throws
/// kDataCorrupted naming the object.
bool get_wal_segment(storage::ObjectStore& store, const WalSegmentId& id, const WalWriter& write,
                     const Stop& stop);
/// Straight into memory: `into` has exactly `id.segment_bytes`. What is in it after a failure, or
/// when the archive lacks the segment, is nothing. `object` is memory for the stored form, which
/// can be used again for the next segment.
bool get_wal_segment(storage::ObjectStore& store, const WalSegmentId& id, MutableByteView into,
                     Bytes& object, const Stop& stop);
/// Into a new file at `path` (replaced if there), which is removed again when this fails. Not
/// synced: PostgreSQL syncs what it restores.
bool get_wal_segment_file(storage::ObjectStore& store, const WalSegmentId& id,
                          const std::string& path, const Stop& stop);

/// Stored bytes of all objects of a segment; absent when the archive lacks it.
std::optional<std::uint64_t> stat_wal_segment(storage::ObjectStore& store, const WalSegmentId& id,
                                              const Stop& stop);

/// Removes a segment that nothing needs; an absent one is fine.
void remove_wal_segment(storage::ObjectStore& store, const WalSegmentId& id, const Stop& stop);

/// Segment numbers that the archive holds for a timeline, ascending.
std::vector<std::uint64_t> list_wal_segments(storage::ObjectStore& store,
                                             std::uint64_t system_identifier,
                                             std::uint32_t timeline,
                                             std::uint64_t wal_segment_bytes, const Stop& stop);

/// Says that an archive without gaps is kept here, so that no segment may be removed merely because
/// no backup's manifest names it. Put before the archive's first segment; stays for good.
void mark_wal_archive(storage::ObjectStore& store, std::uint64_t system_identifier,
                      const Stop& stop);
bool is_wal_archive(storage::ObjectStore& store, std::uint64_t system_identifier, const Stop& stop);

/// The history file of a timeline ("00000002.history"), with the rules of put_wal_segment().
/// `directory` as in WalSegmentId.
void put_timeline_history(storage::ObjectStore& store, std::uint64_t system_identifier,
                          std::uint32_t timeline, ByteView content, const Stop& stop,
                          std::string_view directory = {});
/// Absent when there is none (timeline 1 never has one). Layers with a directory of their own that
/// lack it are of a version that put it into the archive: there it is looked for too.
std::optional<Bytes> get_timeline_history(storage::ObjectStore& store,
                                          std::uint64_t system_identifier, std::uint32_t timeline,
                                          const Stop& stop, std::string_view directory = {});

/// What leads to a timeline, by its history. Absent when there is none.
std::optional<postgres::TimelinePath> get_timeline_path(storage::ObjectStore& store,
                                                        std::uint64_t system_identifier,
                                                        std::uint32_t timeline, const Stop& stop,
                                                        std::string_view directory = {});

}  // namespace holdfast::collection
