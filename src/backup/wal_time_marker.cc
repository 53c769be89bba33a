#include "backup/wal_time_marker.h"

#include <utility>

#include "postgres/wal_reader.h"

namespace holdfast::backup {

namespace {

using postgres::Lsn;

constexpr std::chrono::seconds kCommitDelay{1};
// Source: PostgreSQL src/include/access/xlog_internal.h (SizeOfXLogLongPHD).
constexpr std::uint64_t kLongestPageHeader = 40;

/// The place for the next record lies behind a page's header, up to which nothing is written.
Lsn behind_last_record(const postgres::WalPosition& position) {
  const Lsn page{position.inserted->value / postgres::kWalPageBytes * postgres::kWalPageBytes};
  const bool behind_header = position.inserted->value - page.value <= kLongestPageHeader;
  return behind_header && position.flushed == page ? page : *position.inserted;
}

}  // namespace

void WalTimeMarker::mark(storage::ObjectStore& store, const postgres::WalPosition& position,
                         Time asked, Lsn archived, postgres::TimelineId timeline, Time now,
                         const Stop& stop) {
  if (!position.inserted || position.flushed < archived) return;
  if (!next_ && now - last_time_ >= interval_) {
    // A commit takes its time a moment before its place.
    next_ = {.time = asked - kCommitDelay, .lsn = behind_last_record(position)};
  }
  if (!next_ || archived < next_->lsn) return;
  collection::put_wal_time_mark(store, system_identifier_, timeline, *next_, last_, stop);
  last_time_ = now;
  last_ = std::exchange(next_, std::nullopt);
}

}  // namespace holdfast::backup
