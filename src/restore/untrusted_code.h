#pragma once

#include <map>
#include <string>
#include <vector>

#include "postgres/connection.h"
#include "restore/object_restore.h"

namespace holdfast::restore {

/// Rows are written with holdfast's own rights, and a user who may not restore everything must not
/// have code of his run with them. What PostgreSQL evaluates while rows come in (checks of tables
/// and domains, generated columns, expressions of partition keys) is refused, and so is what does
/// not belong to him. `relations` is a query for the OIDs of the relations. Fine for
/// administrators.
void require_harmless(const ObjectRestoreRun& run, postgres::Connection& workshop,
                      const std::string& relations);

/// What PostgreSQL runs with holdfast's own rights while rows come into tables of `schemas` (all
/// for none) must be superusers' code, whoever restores: functions of generated columns, of
/// partition keys, and of the casts and operators of foreign keys. Of staging schemas (when there
/// are some) also the types that are not in them: nobody else may own those that hold checks, or
/// could get some. `defined` is where the functions have the owners that count.
void require_trusted_code(const ObjectRestoreRun& run, postgres::Connection& defined,
                          postgres::Connection& live, const std::vector<std::string>& schemas);

/// What PostgreSQL runs by itself with the rights of a table's owner (functions of indexes and
/// statistics) must not be the code of others: superusers', the owner's own, or with grants whose
/// it was. What runs with the rights of whoever writes is told in a notice. `owners` are those that
/// the tables of the staging schemas will have, by "schema.table" quoted.
void require_own_code(const ObjectRestoreRun& run, postgres::Connection& workshop,
                      postgres::Connection& live, const std::vector<std::string>& schemas,
                      const std::map<std::string, std::string>& owners);

/// The same for a whole database, where functions come along: refuses when a table is to belong to
/// somebody else than before, and one of its indexes runs what yet another role wrote.
void require_authors_own(const ObjectRestoreRun& run, postgres::Connection& workshop,
                         postgres::Connection& live);

}  // namespace holdfast::restore
