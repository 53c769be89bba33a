#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "postgres/lsn.h"
#include "state/database.h"

namespace holdfast::backup {

/// How the owner begins that is a running backup: "job 17".
inline constexpr std::string_view kHoldOfJob = "job ";

/// WAL that PostgreSQL is to keep for the next layer of a chain, behind what the archive still
/// needs: a layer of databases or tables with revision history stores the WAL since the one before.
struct WalHold {
  std::string owner;  ///< has one hold for each archive: a scope's or a running backup's
  std::string full;   ///< of the chain
  postgres::TimelineId timeline = 0;
  postgres::Lsn from;  ///< everything from here on
  Time since;
};

/// The holds on the slot of one archive, in the daemon's state: durable when a call returns.
/// Thread-safe, as often as it is made for one slot.
class WalHolds {
 public:
  /// The database outlives it.
  WalHolds(state::Database& database, std::string_view slot);

  std::vector<WalHold> list() const;
  /// In the place of what its owner had.
  void put(const WalHold& hold);
  /// One that is not there is fine.
  void release(std::string_view owner);
  /// The one that was listed, and not what its owner has put in its place meanwhile.
  void release(const WalHold& listed);
  void clear();

 private:
  state::Database& database_;
  const std::string name_;
};

}  // namespace holdfast::backup
