#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "postgres/connection.h"
#include "restore/object_restore.h"

namespace holdfast::restore {

/// Something that has an owner, as SQL names it on both sides.
struct OwnedObject {
  std::string kind;      ///< "TABLE", "OPERATOR CLASS": as ALTER wants it
  std::string identity;  ///< qualified and quoted, with argument types
  std::string owner;
  bool runs_as_owner = false;   ///< a function with SECURITY DEFINER
  bool superuser_only = false;  ///< no other role may own it
};

/// What users own in `schemas` (plain names), without the schemas themselves; for none, in the
/// whole database. Without what belongs to extensions.
std::vector<OwnedObject> list_owned_objects(postgres::Connection& connection,
                                            const std::vector<std::string>& schemas,
                                            const Stop& stop);

/// Makes the role that owns what is being built while holdfast works on it: PostgreSQL runs the
/// functions of indexes, statistics and materialized views as the owner, and neither the users' own
/// nor holdfast's rights may be lent to them then. It cannot log in, has no members and no rights.
void make_builder(const ObjectRestoreRun& run, postgres::Connection& live);
/// Gives everything to it but what only superusers may own; before anything is built that
/// PostgreSQL runs as the owner.
void give_to_builder(const ObjectRestoreRun& run, postgres::Connection& target,
                     const std::vector<std::string>& schemas);
/// Takes from it what it was allowed, and removes it. `target` is where it worked. Fine when it is
/// not there. Throws when it owns something yet.
void drop_builder(const ObjectRestoreRun& run, postgres::Connection& target);

/// The statements that give `objects` (as they are in the workshop) to whom they belong: with
/// grants to the owners they had, else to the user who restores. A function that runs as its owner
/// no longer does so when that is somebody else from now on; a notice tells.
std::vector<std::string> ownership_statements(const ObjectRestoreRun& run,
                                              postgres::Connection& live,
                                              const std::vector<OwnedObject>& objects);

/// `role` exists and is a superuser.
bool is_superuser(postgres::Connection& connection, const std::string& role, const Stop& stop);

/// Runs many statements, not all in one transaction.
void run_in_batches(postgres::Connection& target, const std::vector<std::string>& statements,
                    const Stop& stop);

}  // namespace holdfast::restore
