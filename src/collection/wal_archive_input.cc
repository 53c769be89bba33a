#include "collection/wal_archive_input.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mutex.h"
#include "collection/wal_archive.h"
#include "collection/wal_recovery.h"

namespace holdfast::collection {

namespace {

/// So much is fetched ahead at most, and no more segments than this.
constexpr std::uint64_t kBytesAhead = 64ULL << 20;
constexpr std::uint64_t kSegmentsAhead = 4;

/// What the archive has of a segment.
struct Content {
  Bytes bytes;             ///< a whole segment
  std::uint64_t held = 0;  ///< from its start; 0: there is nothing of it
};

/// Segments one by one; once two that follow one another were asked for, those behind them are
/// fetched by threads, which end with it.
class Fetcher {
 public:
  Fetcher(storage::ObjectStore& store, ArchivedWal wal, const Stop& stop, postgres::Lsn ahead_until)
      : store_(store), wal_(std::move(wal)), stop_(stop) {
    const std::uint64_t bytes = wal_.wal_segment_bytes;
    if (!ahead_until.valid()) return;
    end_ = segment_of(postgres::Lsn{ahead_until.value - 1}, bytes) + 1;
    ahead_ = std::min(kSegmentsAhead, kBytesAhead / bytes);
  }

  ~Fetcher() {
    fetching_.request(StopReason::Cancel);
    for (auto& thread : threads_) thread.join();
  }

  Fetcher(const Fetcher&) = delete;
  Fetcher& operator=(const Fetcher&) = delete;

  bool read(std::uint64_t segment, std::uint64_t offset, MutableByteView out) {
    if (present_ != segment) move_to(segment);
    // Pages are read whole; what is not written yet of the last one is zeros.
    if (offset >= content_.held) return false;
    std::copy_n(content_.bytes.begin() + static_cast<std::ptrdiff_t>(offset), out.size(),
                out.begin());
    return true;
  }

 private:
  struct Slot {
    std::optional<Content> content;
    std::exception_ptr failure;
    bool done() const { return content || failure; }
  };

  void move_to(std::uint64_t segment) {
    const bool goes_on = asked_ && *asked_ + 1 == segment;
    asked_ = segment;
    present_.reset();
    content_ = {};
    if (!goes_on) forget();
    content_ = goes_on && ahead_ > 0 && segment < end_ ? take(segment) : fetch(segment, stop_);
    // What is not there may come.
    if (content_.held > 0) present_ = segment;
  }

  Content take(std::uint64_t segment) {
    MutexLock lock(mutex_);
    // With the one that is waited for.
    for (std::uint64_t next = segment; next < end_ && next <= segment + ahead_; ++next) {
      if (slots_.try_emplace(next).second) wanted_.push_back(next);
    }
    while (threads_.size() < ahead_) {
      threads_.emplace_back([this, tag = log::thread_tag()] {
        const log::ThreadTag thread_tag(tag);
        run();
      });
    }
    changed_.notify_all();
    const auto ready = [&]() HF_REQUIRES(mutex_) { return slots_.at(segment).done(); };
    if (!changed_.wait(lock, stop_.token(), ready)) stop_.check();
    Slot slot = std::move(slots_.at(segment));
    slots_.erase(segment);
    if (slot.failure) std::rethrow_exception(slot.failure);
    return std::move(*slot.content);
  }

  /// Of what is being fetched, the outcome is dropped when it comes.
  void forget() {
    MutexLock lock(mutex_);
    wanted_.clear();
    slots_.clear();
  }

  void run() {
    const Stop stop = fetching_.stop();
    for (;;) {
      const auto segment = next_wanted(stop);
      if (!segment) return;
      Slot slot;
      try {
        slot.content = fetch(*segment, stop);
      } catch (const Stopped&) {
        return;
      } catch (...) {
        // Told to whoever comes to the segment, if anybody does.
        slot.failure = std::current_exception();
      }
      MutexLock lock(mutex_);
      const auto found = slots_.find(*segment);
      if (found != slots_.end() && !found->second.done()) found->second = std::move(slot);
      changed_.notify_all();
    }
  }

  std::optional<std::uint64_t> next_wanted(const Stop& stop) {
    MutexLock lock(mutex_);
    changed_.wait(lock, stop.token(), [&]() HF_REQUIRES(mutex_) { return !wanted_.empty(); });
    if (stop.requested()) return std::nullopt;
    const std::uint64_t segment = wanted_.front();
    wanted_.pop_front();
    return segment;
  }

  Content fetch(std::uint64_t segment, const Stop& stop) const {
    Content content;
    content.bytes.assign(wal_.wal_segment_bytes, std::byte{0});
    const WalSegmentId id{.system_identifier = wal_.system_identifier,
                          .timeline = wal_.path.of_segment(segment, wal_.wal_segment_bytes),
                          .segment = segment,
                          .segment_bytes = wal_.wal_segment_bytes,
                          .directory = wal_.directory};
    const WalWriter take = [&](std::uint64_t at, ByteView piece) {
      std::copy(piece.begin(), piece.end(),
                content.bytes.begin() + static_cast<std::ptrdiff_t>(at));
    };
    try {
      content.held = get_wal_or_tail(store_, id, take, stop).value_or(0);
    } catch (Error& error) {
      const std::string name =
          postgres::wal_segment_name(id.timeline, id.segment, id.segment_bytes);
      if (error.message().find(name) == std::string::npos) {
        error.at(fmt::format("could not fetch WAL segment {}", name));
      }
      throw;
    }
    return content;
  }

  storage::ObjectStore& store_;
  const ArchivedWal wal_;
  const Stop& stop_;
  std::uint64_t ahead_ = 0;  // how many segments
  std::uint64_t end_ = 0;    // from this one on nothing is fetched ahead
  std::optional<std::uint64_t> asked_;
  std::optional<std::uint64_t> present_;
  Content content_;

  StopSource fetching_;
  std::vector<std::thread> threads_;
  Mutex mutex_;
  std::condition_variable_any changed_;
  std::map<std::uint64_t, Slot> slots_ HF_GUARDED_BY(mutex_);
  std::deque<std::uint64_t> wanted_ HF_GUARDED_BY(mutex_);
};

}  // namespace

postgres::WalInput archive_input(storage::ObjectStore& store, ArchivedWal wal, const Stop& stop,
                                 postgres::Lsn ahead_until) {
  auto fetcher = std::make_shared<Fetcher>(store, std::move(wal), stop, ahead_until);
  return [fetcher](std::uint64_t segment, std::uint64_t offset, MutableByteView out) {
    return fetcher->read(segment, offset, out);
  };
}

}  // namespace holdfast::collection
