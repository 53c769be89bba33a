#include "backup/wal_keeper.h"

#include <fcntl.h>
#include <fmt/core.h>

#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "io/file.h"
#include "io/file_system.h"
#include "jobs/progress.h"

namespace holdfast::backup {

namespace {

/// Archived segments that stay in the spool, so that the last commit can be found without fetching
/// WAL again.
constexpr std::uint64_t kKeptSegments = 8;
/// While the storage takes a segment the next one comes: no limit is lower.
constexpr std::size_t kLeastWaiting = 2;

constexpr SqlState kConfigurationLimitExceeded("53400");

}  // namespace

/// The spool, which tells the archiving thread of each complete segment.
class WalKeeper::Sink final : public postgres::SpoolWalSink {
 public:
  explicit Sink(WalKeeper& keeper)
      : SpoolWalSink(keeper.options_.spool, keeper.options_.segment_bytes),
        keeper_(keeper),
        received_(keeper.options_.segment_bytes) {}

  void begin_segment(postgres::TimelineId timeline, std::uint64_t segment) override {
    received_ = ReceivedWal(keeper_.options_.segment_bytes);
    SpoolWalSink::begin_segment(timeline, segment);
  }

  void write(std::uint64_t offset, ByteView bytes) override {
    received_.add(bytes);
    SpoolWalSink::write(offset, bytes);
  }

  void end_segment() override {
    received_.end();
    SpoolWalSink::end_segment();
    keeper_.check_spool(segments().size());
    MutexLock lock(keeper_.mutex_);
    keeper_.waiting_.push_back({segments().back(), std::move(received_)});
    keeper_.changed_.notify_all();
  }

  void timeline_history(postgres::TimelineId timeline, ByteView content) override {
    SpoolWalSink::timeline_history(timeline, content);
    // Archived with the last segment, so that a cancelled backup has not put it.
    MutexLock lock(keeper_.mutex_);
    keeper_.histories_.emplace_back(timeline, Bytes(content.begin(), content.end()));
  }

 private:
  WalKeeper& keeper_;
  ReceivedWal received_;
};

WalKeeper::WalKeeper(Options options, const Stop& stop)
    : options_(std::move(options)),
      receiver_(postgres::WalReceiver::connect({.connect = options_.connect,
                                                .wal_segment_bytes = options_.segment_bytes,
                                                .slot = options_.slot,
                                                .temporary_slot = true},
                                               stop)) {
  if (receiver_->identity().system_identifier != options_.system_identifier) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                "the server that streams WAL is not the one of the data directory")
        .detail(fmt::format("Its system identifier is {}, that of the data directory {}.",
                            receiver_->identity().system_identifier, options_.system_identifier));
  }
}

WalKeeper::~WalKeeper() {
  link_.reset();
  stop_.request(StopReason::None);
}

void WalKeeper::start(postgres::Lsn start, postgres::TimelineId timeline, const Stop& stop) {
  timeline_ = timeline;
  link_ = std::make_unique<StopLink>(stop.token(), [this, &stop] { stop_.request(stop.reason()); });
  const std::string tag = log::thread_tag();
  receiving_ = std::jthread([this, start, timeline, tag] {
    const log::ThreadTag thread_tag(tag);
    receive(start, timeline);
  });
  archiving_ = std::jthread([this, tag] {
    const log::ThreadTag thread_tag(tag);
    archive();
  });
}

void WalKeeper::receive(postgres::Lsn start, postgres::TimelineId timeline) {
  try {
    Sink sink(*this);
    receiver_->run(start, timeline, sink, stop_.stop());
    MutexLock lock(mutex_);
    received_all_ = true;
    changed_.notify_all();
  } catch (Error& error) {
    error.at("could not receive the WAL of the backup");
    fail(std::current_exception());
  } catch (const Stopped&) {
    fail(std::current_exception());
  } catch (const std::exception&) {
    fail(std::current_exception());
  }
}

void WalKeeper::archive() {
  try {
    while (const auto spooled = next_segment()) {
      auto archived = archive(*spooled);
      MutexLock lock(mutex_);
      archived_.push_back(std::move(archived));
      changed_.notify_all();
    }
  } catch (const Stopped&) {
    fail(std::current_exception());
  } catch (const std::exception&) {
    fail(std::current_exception());
  }
}

std::optional<WalKeeper::Spooled> WalKeeper::next_segment() {
  const Stop stop = stop_.stop();
  MutexLock lock(mutex_);
  changed_.wait(lock, stop.token(), [&]() HF_REQUIRES(mutex_) {
    return !waiting_.empty() || received_all_ || failure_ != nullptr;
  });
  stop.check();
  if (waiting_.empty()) return std::nullopt;
  Spooled spooled = std::move(waiting_.front());
  waiting_.pop_front();
  return spooled;
}

collection::proto::WalSegment WalKeeper::archive(const Spooled& spooled) {
  const Stop stop = stop_.stop();
  const postgres::WalSegment& segment = spooled.segment;
  if (segment.timeline != timeline_) {
    // What the server says of the backup's stop would name the old timeline, to whose end the
    // backup is not consistent.
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                fmt::format("the standby changed from timeline {} to {} while the backup ran",
                            timeline_, segment.timeline))
        .hint("Take the backup again.");
  }
  collection::proto::WalSegment archived;
  archived.set_timeline(segment.timeline);
  archived.set_segment(segment.segment);
  if (options_.spool_only) return archived;
  archived.set_stored_bytes(put(spooled, stop));
  if (segment.segment >= kKeptSegments) {
    std::error_code ignored;  // the oldest ones are not there; the spool is removed in the end
    std::filesystem::remove(path_of(segment.segment - kKeptSegments), ignored);
  }
  return archived;
}

std::uint64_t WalKeeper::put(const Spooled& spooled, const Stop& stop) {
  const auto id = id_of(spooled.segment.segment);
  if (!collection::stat_wal_segment(*options_.store, id, stop)) options_.before_put(id);
  const std::string path = path_of(id.segment).string();
  io::FileSystem& files = io::FileSystem::real();
  const UniqueFd file = io::open_file(files, path, O_RDONLY);
  return collection::put_wal_segment(
      *options_.store, id,
      [&](std::uint64_t offset, MutableByteView frame) {
        const std::size_t read = io::pread_up_to(files, file.get(), frame, offset, path);
        spooled.received.check(offset, frame.first(read), path);
      },
      options_.compression, stop);
}

void WalKeeper::fail(std::exception_ptr failure) {
  MutexLock lock(mutex_);
  if (!failure_) failure_ = std::move(failure);
  changed_.notify_all();
}

void WalKeeper::check() const {
  std::exception_ptr failure;
  {
    MutexLock lock(mutex_);
    failure = failure_;
  }
  if (failure) std::rethrow_exception(failure);
}

void WalKeeper::finish(postgres::Lsn end, const Stop& stop) {
  const std::uint64_t last = (end.value - 1) / options_.segment_bytes;
  receiver_->end_at(postgres::segment_start(last + 1, options_.segment_bytes));
  {
    MutexLock lock(mutex_);
    changed_.wait(lock, stop.token(), [&]() HF_REQUIRES(mutex_) {
      return failure_ != nullptr || (!archived_.empty() && archived_.back().segment() >= last);
    });
  }
  stop.check();
  check();
  if (options_.spool_only) return;
  for (const auto& [timeline, content] : histories()) {
    collection::put_timeline_history(*options_.store, options_.system_identifier, timeline, content,
                                     stop);
  }
}

std::vector<std::pair<postgres::TimelineId, Bytes>> WalKeeper::histories() const {
  MutexLock lock(mutex_);
  return histories_;
}

void WalKeeper::check_spool(std::size_t received) const {
  if (options_.spool_limit == 0) return;
  std::size_t waiting = received;
  if (!options_.spool_only) {
    MutexLock lock(mutex_);
    waiting -= archived_.size();
    if (waiting <= kLeastWaiting) return;
  }
  if (waiting * options_.segment_bytes <= options_.spool_limit) return;
  Error error(kConfigurationLimitExceeded, fmt::format("it takes more than --wal-keep-limit ({})",
                                                       jobs::format_bytes(options_.spool_limit)));
  if (options_.spool_only) {
    error
        .detail(
            "The WAL of a backup of databases or tables waits under --store until the backup ends.")
        .hint(
            "Take the backup when the server writes less, without max_rate, or raise "
            "--wal-keep-limit.");
  } else {
    error.detail("It waits under --store, because the server writes more than the storage takes.")
        .hint("Take the backup when the server writes less, or raise --wal-keep-limit.");
  }
  throw error;
}

std::vector<collection::proto::WalSegment> WalKeeper::segments() const {
  MutexLock lock(mutex_);
  return archived_;
}

postgres::WalInput WalKeeper::input(const Stop& stop) {
  auto files =
      postgres::wal_directory_input(options_.spool.string(), timeline_, options_.segment_bytes);
  return [this, &stop, files = std::move(files)](std::uint64_t segment, std::uint64_t offset,
                                                 MutableByteView out) {
    fetch(segment, stop);
    return files(segment, offset, out);
  };
}

void WalKeeper::fetch(std::uint64_t segment, const Stop& stop) {
  if (segment == present_) return;
  present_ = segment;
  if (std::filesystem::exists(path_of(segment))) return;
  if (fetched_) std::filesystem::remove(path_of(*fetched_));
  fetched_.reset();
  if (collection::get_wal_segment_file(*options_.store, id_of(segment), path_of(segment).string(),
                                       stop)) {
    fetched_ = segment;
  }
}

collection::WalSegmentId WalKeeper::id_of(std::uint64_t segment) const {
  return {.system_identifier = options_.system_identifier,
          .timeline = timeline_,
          .segment = segment,
          .segment_bytes = options_.segment_bytes};
}

std::filesystem::path WalKeeper::path_of(std::uint64_t segment) const {
  return options_.spool / postgres::wal_segment_name(timeline_, segment, options_.segment_bytes);
}

}  // namespace holdfast::backup
