#include "collection/wal_archive.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>

#include "base/assert.h"
#include "base/error.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "collection/names_internal.h"
#include "collection/pack.h"
#include "collection/pack_internal.h"
#include "collection/wal_object_internal.h"
#include "io/file.h"

namespace holdfast::collection {

namespace {

using storage::ObjectKey;
using storage::ObjectStore;

/// Source: PostgreSQL src/include/access/xlog_internal.h (IsValidWalSegSize).
constexpr std::uint64_t kSmallestSegment = 1ULL << 20;
constexpr std::uint64_t kLargestSegment = 1ULL << 30;

/// PostgreSQL writes one line per timeline switch; a megabyte is tens of thousands.
constexpr std::size_t kLongestHistory = kFrameBytes;

/// What a WAL segment of 16 MiB usually packs to, and what a history file does.
constexpr std::size_t kUsualObjectBytes = 6U << 20;
constexpr std::size_t kSmallBytes = 4096;

void check_id(const WalSegmentId& id) {
  if (id.segment_bytes < kSmallestSegment || id.segment_bytes > kLargestSegment ||
      (id.segment_bytes & (id.segment_bytes - 1)) != 0) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("invalid WAL segment size: {} bytes", id.segment_bytes));
  }
}

ObjectKey below(std::string_view directory, const ObjectKey& key) {
  return directory.empty() ? key : fmt::format("{}/{}", directory, key);
}

ObjectKey part_key(const WalSegmentId& id, std::uint32_t part) {
  return below(id.directory,
               wal_part_key(id.system_identifier, id.timeline, id.segment, id.segment_bytes, part));
}

std::uint32_t part_count(const WalSegmentId& id) {
  return static_cast<std::uint32_t>((id.segment_bytes + kWalPartBytes - 1) / kWalPartBytes);
}

Error corrupt_archive(const ObjectKey& key, std::string_view why) {
  return Error(sqlstate::kDataCorrupted, fmt::format("WAL object \"{}\" is corrupt", key))
      .detail(std::string(why));
}

/// Gets the objects of a segment one by one: `get` is told the key, where in the segment the object
/// belongs and how many bytes it must have, and answers as get_wal_object(). False: there is none.
template <typename Get>
bool get_parts(const WalSegmentId& id, const Get& get) {
  check_id(id);
  std::uint64_t at = 0;
  for (std::uint32_t part = 0; part < part_count(id); ++part) {
    const ObjectKey key = part_key(id, part);
    const std::uint64_t expected = std::min(kWalPartBytes, id.segment_bytes - at);
    const std::optional<std::uint64_t> got = get(key, at, expected);
    if (!got) {
      if (part == 0) return false;
      throw Error(sqlstate::kUndefinedFile, fmt::format("WAL object \"{}\" does not exist", key))
          .detail("Another part of the same WAL segment is there.");
    }
    if (*got != expected) {
      throw corrupt_archive(key, fmt::format("It holds {} bytes instead of {}.", *got, expected));
    }
    at += expected;
  }
  return true;
}

}  // namespace

WalSegmentId wal_segment_of(const proto::Manifest& manifest, const proto::WalSegment& segment) {
  return {.system_identifier = manifest.instance().system_identifier(),
          .timeline = segment.timeline(),
          .segment = segment.segment(),
          .segment_bytes = manifest.instance().wal_segment_bytes(),
          .directory = manifest.wal_directory()};
}

ObjectKey wal_segment_key(const WalSegmentId& id) { return part_key(id, 0); }

std::uint64_t put_wal_segment(ObjectStore& store, const WalSegmentId& id, const ReadWal& read,
                              const Compression& compression, const Stop& stop,
                              const std::function<void()>& before_last) {
  check_id(id);
  FrameEncoder encoder(compression);
  PackBuilder builder(kUsualObjectBytes);
  Bytes plain(kFrameBytes);
  std::uint64_t stored = 0;
  // Part 0 last: a segment exists when its part 0 does.
  for (std::uint32_t part = part_count(id); part-- > 0;) {
    const ObjectKey key = part_key(id, part);
    const std::uint64_t begin = part * kWalPartBytes;
    const std::uint64_t end = std::min(begin + kWalPartBytes, id.segment_bytes);
    builder.reset(part, wal_object_uuid(key));
    for (std::uint64_t at = begin; at < end; at += kFrameBytes) {
      stop.check();
      read(at, plain);
      builder.add(encoder, 0, static_cast<std::uint32_t>((at - begin) / kFrameBytes), plain);
    }
    if (part == 0 && before_last) before_last();
    stored += put_wal_object(store, key, builder, stop);
  }
  return stored;
}

std::uint64_t put_wal_segment_file(ObjectStore& store, const WalSegmentId& id,
                                   const std::string& path, const Compression& compression,
                                   const Stop& stop) {
  io::FileSystem& files = io::FileSystem::real();
  const UniqueFd fd = io::open_file(files, path, O_RDONLY);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) throw_errno(fmt::format("stat file \"{}\"", path));
  if (static_cast<std::uint64_t>(status.st_size) != id.segment_bytes) {
    throw Error(sqlstate::kDataCorrupted, fmt::format("WAL file \"{}\" has {} bytes instead of {}",
                                                      path, status.st_size, id.segment_bytes));
  }
  const ReadWal read = [&](std::uint64_t offset, MutableByteView into) {
    if (io::pread_up_to(files, fd.get(), into, offset, path) != into.size()) {
      throw Error(sqlstate::kDataCorrupted,
                  fmt::format("WAL file \"{}\" became shorter while it was read", path));
    }
  };
  return put_wal_segment(store, id, read, compression, stop);
}

bool get_wal_segment(ObjectStore& store, const WalSegmentId& id, const WalWriter& write,
                     const Stop& stop) {
  return get_parts(id, [&](const ObjectKey& key, std::uint64_t at, std::uint64_t expected) {
    return get_wal_object(
        store, key, expected,
        [&](ByteView bytes) {
          write(at, bytes);
          at += bytes.size();
        },
        stop);
  });
}

bool get_wal_segment(ObjectStore& store, const WalSegmentId& id, MutableByteView into,
                     Bytes& object, const Stop& stop) {
  HF_ASSERT(into.size() == id.segment_bytes);
  return get_parts(id, [&](const ObjectKey& key, std::uint64_t at, std::uint64_t expected) {
    return get_wal_object(store, key, into.subspan(at, expected), object, stop);
  });
}

bool get_wal_segment_file(ObjectStore& store, const WalSegmentId& id, const std::string& path,
                          const Stop& stop) {
  if (!stat_wal_segment(store, id, stop)) return false;
  io::FileSystem& files = io::FileSystem::real();
  const UniqueFd fd = io::open_file(files, path, O_WRONLY | O_CREAT | O_TRUNC);
  bool whole = false;
  try {
    whole = get_wal_segment(
        store, id,
        [&](std::uint64_t offset, ByteView bytes) {
          io::pwrite_all(files, fd.get(), bytes, offset, path);
        },
        stop);
  } catch (...) {
    // Also when stopped: PostgreSQL must not find half a segment.
    io::remove_file(files, path);
    throw;
  }
  if (!whole) io::remove_file(files, path);
  return whole;
}

std::optional<std::uint64_t> stat_wal_segment(ObjectStore& store, const WalSegmentId& id,
                                              const Stop& stop) {
  check_id(id);
  std::uint64_t stored = 0;
  for (std::uint32_t part = 0; part < part_count(id); ++part) {
    const auto info = store.stat(part_key(id, part), stop);
    if (!info) return std::nullopt;
    stored += info->size;
  }
  return stored;
}

void remove_wal_segment(ObjectStore& store, const WalSegmentId& id, const Stop& stop) {
  check_id(id);
  // Part 0 first: without it there is no segment.
  for (std::uint32_t part = 0; part < part_count(id); ++part) {
    storage::remove_if_allowed(store, part_key(id, part), stop);
  }
}

std::vector<std::uint64_t> list_wal_segments(ObjectStore& store, std::uint64_t system_identifier,
                                             std::uint32_t timeline,
                                             std::uint64_t wal_segment_bytes, const Stop& stop) {
  const std::uint64_t per_id = 0x100000000ULL / wal_segment_bytes;
  const std::string directory = wal_timeline_directory(system_identifier, timeline);
  std::vector<std::uint64_t> segments;
  store.list(
      directory,
      [&](const storage::ObjectInfo& info) {
        // <timeline 8><high 8><low 8>.wal; whatever else is there is not ours.
        const std::string_view name = std::string_view(info.key).substr(directory.size() + 1);
        if (name.size() < 24) return;
        std::uint64_t high = 0;
        std::uint64_t low = 0;
        std::from_chars(name.data() + 8, name.data() + 16, high, 16);
        std::from_chars(name.data() + 16, name.data() + 24, low, 16);
        const std::uint64_t segment = high * per_id + low;
        if (info.key == wal_key(system_identifier, timeline, segment, wal_segment_bytes)) {
          segments.push_back(segment);
        }
      },
      stop);
  std::sort(segments.begin(), segments.end());
  return segments;
}

void mark_wal_archive(ObjectStore& store, std::uint64_t system_identifier, const Stop& stop) {
  // For who looks into the bucket; only that the object is there counts.
  constexpr std::string_view kText = "Every WAL segment here belongs to a WAL archive.\n";
  store.put(wal_archive_mark_key(system_identifier), as_bytes(kText),
            storage::PutMode::OnlyIfAbsent, stop);
}

bool is_wal_archive(ObjectStore& store, std::uint64_t system_identifier, const Stop& stop) {
  return store.stat(wal_archive_mark_key(system_identifier), stop).has_value();
}

void put_timeline_history(ObjectStore& store, std::uint64_t system_identifier,
                          std::uint32_t timeline, ByteView content, const Stop& stop,
                          std::string_view directory) {
  if (content.empty() || content.size() > kLongestHistory) {
    throw Error(sqlstate::kDataCorrupted,
                fmt::format("history file of timeline {} has {} bytes", timeline, content.size()));
  }
  const ObjectKey key = below(directory, history_key(system_identifier, timeline));
  FrameEncoder encoder(Compression{});
  PackBuilder builder(kSmallBytes);
  builder.reset(0, wal_object_uuid(key));
  builder.add(encoder, 0, 0, content);
  put_wal_object(store, key, builder, stop);
}

std::optional<Bytes> get_timeline_history(ObjectStore& store, std::uint64_t system_identifier,
                                          std::uint32_t timeline, const Stop& stop,
                                          std::string_view directory) {
  const ObjectKey key = below(directory, history_key(system_identifier, timeline));
  Bytes content;
  const auto got = get_wal_object(
      store, key, kLongestHistory,
      [&](ByteView bytes) { content.insert(content.end(), bytes.begin(), bytes.end()); }, stop);
  if (got) return content;
  if (directory.empty()) return std::nullopt;
  return get_timeline_history(store, system_identifier, timeline, stop);
}

std::optional<postgres::TimelinePath> get_timeline_path(ObjectStore& store,
                                                        std::uint64_t system_identifier,
                                                        std::uint32_t timeline, const Stop& stop,
                                                        std::string_view directory) {
  if (timeline == 1) return postgres::TimelinePath(1, {});
  const auto content = get_timeline_history(store, system_identifier, timeline, stop, directory);
  if (!content) return std::nullopt;
  return postgres::TimelinePath(
      timeline, postgres::parse_timeline_history(as_text(*content),
                                                 postgres::timeline_history_name(timeline)));
}

}  // namespace holdfast::collection
