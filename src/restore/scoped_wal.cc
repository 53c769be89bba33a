#include "restore/scoped_wal.h"

#include <fcntl.h>
#include <fmt/core.h>

#include <algorithm>
#include <deque>
#include <future>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "collection/wal_archive.h"
#include "collection/wal_recovery.h"
#include "io/file.h"
#include "postgres/lsn.h"
#include "postgres/versions.h"
#include "postgres/wal_condenser.h"
#include "postgres/wal_segment_content.h"
#include "restore/recovery_target.h"

namespace holdfast::restore {
namespace {

using collection::proto::Manifest;

/// So much is in work at once, and no more segments than this.
constexpr std::uint64_t kBytesAhead = 64ULL << 20;
constexpr std::uint64_t kSegmentsAhead = 4;

/// The WAL that a manifest lists, in its order: while one segment is made use of, the next ones are
/// fetched, unpacked and examined.
class SegmentsAhead {
 public:
  struct Memory {
    Bytes segment;
    Bytes object;  // as it is stored
  };
  struct Segment {
    Memory memory;
    postgres::WalSegmentContent content;  // with a view of it
  };

  /// With a target the archive may have only the beginning of the last segment, of any length.
  SegmentsAhead(const Manifest& manifest, bool has_target, const postgres::WalExtent& extent,
                const postgres::WalScope& scope, storage::ObjectStore& store, const Stop& stop)
      : manifest_(manifest),
        has_target_(has_target),
        extent_(extent),
        scope_(scope),
        store_(store),
        most_(std::clamp<std::uint64_t>(kBytesAhead / extent.wal_segment_bytes, 1, kSegmentsAhead)),
        stop_(stop) {}

  bool at_end() const { return ahead_.empty() && next_ == manifest_.wal_size(); }

  /// The next one. Throws kUndefinedFile when it is missing.
  Segment take() {
    for (; ahead_.size() < most_ && next_ < manifest_.wal_size(); ++next_) {
      Memory memory;
      if (!free_.empty()) {
        memory = std::move(free_.back());
        free_.pop_back();
      }
      ahead_.push_back(std::async(
          std::launch::async,
          [this, number = next_, tag = log::thread_tag()](Memory used) {
            const log::ThreadTag thread_tag(tag);
            return get(number, std::move(used));
          },
          std::move(memory)));
    }
    Segment segment = ahead_.front().get();
    ahead_.pop_front();
    return segment;
  }

  /// Its memory serves another one: the kernel need not clear pages for each.
  void give_back(Segment segment) { free_.push_back(std::move(segment.memory)); }

 private:
  Segment get(int number, Memory memory) const {
    const auto& wal = manifest_.wal(number);
    Segment segment{.memory = std::move(memory), .content = {}};
    segment.memory.segment.resize(extent_.wal_segment_bytes);
    if (!fetch(number, segment.memory)) {
      throw Error(sqlstate::kUndefinedFile,
                  fmt::format("WAL segment {} is missing in the collection",
                              postgres::wal_segment_name(wal.timeline(), wal.segment(),
                                                         extent_.wal_segment_bytes)));
    }
    segment.content = postgres::examine_wal_segment(
        extent_, scope_, postgres::segment_start(wal.segment(), extent_.wal_segment_bytes),
        segment.memory.segment);
    return segment;
  }

  bool fetch(int number, Memory& memory) const {
    Bytes& into = memory.segment;
    const collection::WalSegmentId id =
        collection::wal_segment_of(manifest_, manifest_.wal(number));
    if (!has_target_ || number + 1 != manifest_.wal_size()) {
      return collection::get_wal_segment(store_, id, into, memory.object, stop_);
    }
    std::ranges::fill(into, std::byte{0});
    const auto write = [&](std::uint64_t offset, ByteView content) {
      std::ranges::copy(content, into.begin() + static_cast<std::ptrdiff_t>(offset));
    };
    return collection::get_wal_or_tail(store_, id, write, stop_).has_value();
  }

  const Manifest& manifest_;
  const bool has_target_;
  const postgres::WalExtent& extent_;
  const postgres::WalScope& scope_;
  storage::ObjectStore& store_;
  const std::uint64_t most_;
  const Stop& stop_;
  int next_ = 0;
  std::vector<Memory> free_;
  std::deque<std::future<Segment>> ahead_;  // their ends wait for what they do
};

/// Writes pages into files of pg_wal, each of a segment's size whatever is written of it.
class SegmentFiles {
 public:
  SegmentFiles(const Manifest& manifest, const Layout& layout, io::FileSystem& files)
      : bytes_(manifest.instance().wal_segment_bytes()),
        last_timeline_(manifest.stop().timeline()),
        layout_(layout),
        files_(files) {
    // One behind the backup may be of another timeline than the backup's.
    for (const auto& wal : manifest.wal()) timelines_[wal.segment()] = wal.timeline();
  }

  void write(postgres::Lsn position, ByteView pages) {
    written_ += pages.size();
    while (!pages.empty()) {
      const std::uint64_t segment = position.value / bytes_;
      const std::uint64_t offset = position.value % bytes_;
      if (!fd_ || segment != open_) open(segment);
      const auto now =
          static_cast<std::size_t>(std::min<std::uint64_t>(pages.size(), bytes_ - offset));
      io::pwrite_all(files_, fd_.get(), pages.first(now), offset, path_);
      pages = pages.subspan(now);
      position.value += now;
    }
  }

  std::uint64_t written() const { return written_; }

 private:
  void open(std::uint64_t segment) {
    const auto timeline = timelines_.find(segment);
    path_ = fmt::format(
        "{}/pg_wal/{}", layout_.root,
        postgres::wal_segment_name(timeline != timelines_.end() ? timeline->second : last_timeline_,
                                   segment, bytes_));
    fd_ = io::open_file(files_, path_, O_WRONLY | O_CREAT | O_EXCL, layout_.file_mode());
    if (files_.truncate(fd_.get(), static_cast<off_t>(bytes_)) != 0) {
      throw_errno(fmt::format("set size of file \"{}\"", path_));
    }
    open_ = segment;
  }

  const std::uint64_t bytes_;
  const std::uint32_t last_timeline_;
  const Layout& layout_;
  io::FileSystem& files_;
  std::map<std::uint64_t, std::uint32_t> timelines_;
  UniqueFd fd_;
  std::string path_;
  std::uint64_t open_ = 0;
  std::uint64_t written_ = 0;
};

}  // namespace

void restore_scoped_wal(const Manifest& manifest, const proto::RecoveryTarget* target,
                        const Layout& layout, const postgres::WalScope& scope,
                        storage::ObjectStore& store, io::FileSystem& files, const Stop& stop) {
  const auto& instance = manifest.instance();
  const postgres::WalExtent extent{
      .major = postgres::major_of(static_cast<int>(instance.server_version_num())),
      .wal_segment_bytes = instance.wal_segment_bytes(),
      .start = postgres::Lsn{manifest.start().position()},
      .end = postgres::Lsn{target != nullptr ? target->end() : manifest.stop().position()}};
  SegmentFiles segments(manifest, layout, files);
  postgres::WalCondenser condenser(extent, scope, [&](postgres::Lsn position, ByteView pages) {
    segments.write(position, pages);
  });
  SegmentsAhead ahead(manifest, target != nullptr, extent, scope, store, stop);
  while (!ahead.at_end()) {
    stop.check();
    auto segment = ahead.take();
    condenser.add(segment.content);
    ahead.give_back(std::move(segment));
  }
  condenser.finish();
  if (target != nullptr) require_last_record(*target, condenser.last_record());
  log::info("WAL of the objects is ready: records={} replaced={} bytes={}", condenser.records(),
            condenser.replaced(), segments.written());
}

}  // namespace holdfast::restore
