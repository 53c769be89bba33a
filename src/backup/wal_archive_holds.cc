#include "backup/wal_archive_holds.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "collection/collection.h"
#include "jobs/progress.h"

namespace holdfast::backup {

namespace {

constexpr std::chrono::seconds kLookForChains{60};

}  // namespace

postgres::Lsn WalArchiveHolds::kept_from(postgres::Lsn durable,
                                         const postgres::TimelinePath& path) const {
  postgres::Lsn from = durable;
  for (const WalHold& hold : holds_.list()) {
    if (path.contains(hold.timeline, hold.from)) from = std::min(from, hold.from);
  }
  return from;
}

bool WalArchiveHolds::drop_lapsed(const postgres::WalPosition& position,
                                  const postgres::TimelinePath& path, std::uint64_t keep_limit) {
  std::uint64_t limit = keep_limit;
  // Of what the slot may keep, half stays for the archive itself: while the daemon is away
  // nobody can let a hold go, and with the slot all would be lost that the archive lacks.
  if (position.slot_limit) {
    const auto half = std::max<std::uint64_t>(*position.slot_limit / 2, 1);
    if (limit == 0 || half < limit) limit = half;
  }
  bool any = false;
  for (const WalHold& hold : holds_.list()) {
    const std::uint64_t kept = position.flushed.value - std::min(position.flushed, hold.from).value;
    if (!path.contains(hold.timeline, hold.from)) {
      log::info("the server has left the history that \"{}\" is of: no WAL is kept for it",
                hold.full);
    } else if (limit != 0 && kept > limit) {
      log::warning(
          "PostgreSQL would have to keep {} of WAL for the next backup onto \"{}\", more than it "
          "may ({}): the moments since its newest layer cannot be restored",
          jobs::format_bytes(kept), hold.full, jobs::format_bytes(limit));
    } else {
      continue;
    }
    holds_.release(hold);
    any = true;
  }
  return any;
}

void WalArchiveHolds::drop_of_deleted_chains(storage::ObjectStore& store, const Stop& stop) {
  const auto now = std::chrono::steady_clock::now();
  if (now - last_look_ < kLookForChains) return;
  last_look_ = now;
  try {
    for (const WalHold& hold : holds_.list()) {
      if (hold.owner.starts_with(kHoldOfJob) ||
          store.stat(collection::manifest_key(hold.full), stop)) {
        continue;
      }
      log::info("backup \"{}\" is gone: no WAL is kept for it", hold.full);
      holds_.release(hold);
    }
  } catch (const Error& error) {
    // The archive's keys may be good for the WAL only; a limit has every hold in the end.
    log::debug("whether chains with history are still there is not known: {}", error.message());
  }
}

}  // namespace holdfast::backup
