#pragma once

#include <string>

#include "backup/milestones.h"
#include "base/clock.h"
#include "collection/moment.h"
#include "sql/statements.h"
#include "statements/dispatcher.h"
#include "statements/stores.h"

namespace holdfast::statements {

/// Adds CREATE MILESTONE and SHOW MILESTONES IN. All outlive the sessions.
void add_milestone_statements(Dispatcher& dispatcher, Stores& stores,
                              backup::Milestones& milestones, const Clock& clock);

/// The rows of information_schema.mv_milestones: a user's own, all for an administrator. Gives
/// their number.
std::size_t list_milestones(const backup::Milestones& milestones, sql::SessionContext& session,
                            sql::RowSink& sink, const Stop& stop);

/// Where to look for the moment of a RESTORE.
struct MomentSearch {
  storage::ObjectStore& store;  ///< with the keys of the backup
  std::uint64_t system_identifier = 0;
  const collection::MomentFinder& finder;
  const sql::Targets& targets;
  std::string database;  ///< the session's, where the targets name none
  Time now{};
};
/// find_moment(), and what MILESTONE 'name' means: the milestone of that name of the database to be
/// restored, or else the only one of any database. A string that is no time is a milestone's name
/// too, if there is one. Throws kUndefinedObject when there is none, and kInvalidParameterValue
/// when several databases have one.
collection::Moment find_moment_or_milestone(const sql::Expression& expression,
                                            const MomentSearch& search, const Stop& stop);

}  // namespace holdfast::statements
