#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "postgres/connection.h"
#include "restore/object_restore.h"
#include "restore_job.pb.h"

namespace holdfast::restore {

/// Makes the schema in which a job builds tables, and puts it into the checkpoint with the schema
/// that it stands for. Nobody else can name anything in it, whatever default privileges say.
void create_staging_schema(const ObjectRestoreRun& run, postgres::Connection& target,
                           const std::string& name, const std::string& destination);

/// Whether it is there with its name, its OID, and holdfast's own role as owner, which nobody else
/// can give away.
bool is_own_schema(const ObjectRestoreRun& run, postgres::Connection& target,
                   const proto::StagingSchema& schema);

/// How many of the relations in the checkpoint are there, in `schema` unless that is empty.
std::size_t count_built_relations(const ObjectRestoreRun& run, postgres::Connection& target,
                                  const std::string& schema);

/// Throws kObjectNotInPrerequisiteState unless all relations in the checkpoint are still in the
/// job's own schemas.
void require_all_built(const ObjectRestoreRun& run, postgres::Connection& target);

/// Moves everything in a staging schema to the schema that it stands for, which is made if need be,
/// and drops the staging schema. In a transaction of the caller's. What was given another name
/// because its own was taken is added to `notices`.
void move_out_of_staging(const ObjectRestoreRun& run, postgres::Connection& target,
                         const proto::StagingSchema& staged, std::vector<std::string>& notices);

/// What the tables' schemas and the tables are called in the live server.
std::string schema_in_target(const proto::ObjectRestoreSpec& spec, const std::string& schema);
std::string name_in_target(const proto::ObjectRestoreSpec& spec, const std::string& name);

}  // namespace holdfast::restore
