#include "backup/wal_holds.h"

#include <algorithm>
#include <functional>

#include "base/bytes.h"
#include "base/error.h"
#include "wal_archive_job.pb.h"

namespace holdfast::backup {

namespace {

proto::WalHolds read(state::Transaction& transaction, const std::string& name) {
  proto::WalHolds holds;
  auto found = transaction.query("SELECT value FROM settings WHERE name = ?", {name});
  if (!found.step()) return holds;
  const auto bytes = from_hex(found.text(0));
  if (!bytes || !holds.ParseFromArray(bytes->data(), static_cast<int>(bytes->size()))) {
    throw Error(sqlstate::kInternalError, "the WAL that is kept for backups cannot be read");
  }
  return holds;
}

/// One step for all threads.
void change(state::Database& database, const std::string& name,
            const std::function<void(proto::WalHolds&)>& edit) {
  state::Transaction transaction(database);
  proto::WalHolds holds = read(transaction, name);
  edit(holds);
  const std::string bytes = holds.SerializeAsString();
  transaction.execute(
      "INSERT INTO settings (name, value) VALUES (?, ?) "
      "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
      {name, to_hex(as_bytes(bytes))});
  transaction.commit();
}

void erase(proto::WalHolds& holds, std::string_view owner) {
  auto& all = *holds.mutable_holds();
  all.erase(std::remove_if(all.begin(), all.end(),
                           [&](const proto::WalHold& hold) { return hold.owner() == owner; }),
            all.end());
}

}  // namespace

WalHolds::WalHolds(state::Database& database, std::string_view slot)
    : database_(database), name_("wal_holds." + std::string(slot)) {}

std::vector<WalHold> WalHolds::list() const {
  state::Transaction transaction(database_);
  const proto::WalHolds holds = read(transaction, name_);
  std::vector<WalHold> listed;
  for (const proto::WalHold& hold : holds.holds()) {
    listed.push_back({.owner = hold.owner(),
                      .full = hold.full(),
                      .timeline = hold.timeline(),
                      .from = postgres::Lsn{hold.position()},
                      .since = time_from_us(hold.since_us())});
  }
  return listed;
}

void WalHolds::put(const WalHold& hold) {
  change(database_, name_, [&](proto::WalHolds& holds) {
    erase(holds, hold.owner);
    auto& added = *holds.add_holds();
    added.set_owner(hold.owner);
    added.set_full(hold.full);
    added.set_timeline(hold.timeline);
    added.set_position(hold.from.value);
    added.set_since_us(hold.since.time_since_epoch().count());
  });
}

void WalHolds::release(std::string_view owner) {
  change(database_, name_, [&](proto::WalHolds& holds) { erase(holds, owner); });
}

void WalHolds::release(const WalHold& listed) {
  change(database_, name_, [&](proto::WalHolds& holds) {
    for (const proto::WalHold& hold : holds.holds()) {
      if (hold.owner() != listed.owner) continue;
      const bool same = hold.full() == listed.full && hold.position() == listed.from.value;
      if (same) erase(holds, listed.owner);
      return;
    }
  });
}

void WalHolds::clear() {
  change(database_, name_, [](proto::WalHolds& holds) { holds.Clear(); });
}

}  // namespace holdfast::backup
