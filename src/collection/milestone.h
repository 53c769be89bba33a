#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/stop.h"
#include "postgres/lsn.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// A named restore point in a server's WAL. The WAL holds it too (pg_create_restore_point()); the
/// object beside it saves reading all WAL to find it.
struct Milestone {
  std::string name;
  std::string database;  ///< that it was created for; names are unique in a database
  std::string user;      ///< who created it
  Time time{};           ///< by the server's clock
  postgres::TimelineId timeline = 0;
  postgres::Lsn lsn;  ///< first byte behind the restore point's record

  friend bool operator==(const Milestone&, const Milestone&) = default;
};

/// "wal/<system identifier>/milestones"
std::string milestone_directory(std::uint64_t system_identifier);
/// "<8 hex timeline>.<16 hex LSN>.milestone" in it
storage::ObjectKey milestone_key(std::uint64_t system_identifier, postgres::TimelineId timeline,
                                 postgres::Lsn lsn);
struct MilestonePlace {
  postgres::TimelineId timeline = 0;
  postgres::Lsn lsn;
};
/// From an object's name without its directory; absent for others.
std::optional<MilestonePlace> parse_milestone_name(std::string_view name);

/// Stores a milestone, and removes those of the same name and database that it replaces. A store
/// that refuses to remove (write-once) costs room, nothing else.
void put_milestone(storage::ObjectStore& store, std::uint64_t system_identifier,
                   const Milestone& milestone, const Stop& stop);

/// In the order of their places; of those with one name and database the last. Throws
/// kFeatureNotSupported when the store cannot be listed, kDataCorrupted naming the object.
std::vector<Milestone> list_milestones(storage::ObjectStore& store, std::uint64_t system_identifier,
                                       const Stop& stop);

/// The servers that have WAL in a collection: their system identifiers.
std::vector<std::uint64_t> list_wal_servers(storage::ObjectStore& store, const Stop& stop);

}  // namespace holdfast::collection
