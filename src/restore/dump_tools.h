#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "restore/object_restore.h"

namespace holdfast::restore {

/// Definitions travel by pg_dump and pg_restore: they know every kind of object and how one depends
/// on another.
struct DumpRequest {
  postgres::ConnectOptions source;
  std::string file;
  std::vector<std::string> schemas{};  ///< plain names; empty: the whole database
};
/// `source` and `live` are connections to the databases that definitions come from and go to: of
/// tablespaces that are missing there a notice is given, and the default one is used. With grants:
/// so are owners and privileges of roles that are missing there.
void dump_definitions(const ObjectRestoreRun& run, const DumpRequest& request,
                      postgres::Connection& source, postgres::Connection& live);

enum class DumpSection { PreData, PostData };
/// Everything belongs to the connection's own role, and nobody else has privileges on it.
/// Throws an Error with the first complaint of pg_restore as its message.
void restore_definitions(const ObjectRestoreRun& run, const DumpRequest& request,
                         const std::string& database, DumpSection section);

/// SQL that gives the privileges which the dump has, to be run once owners are right; empty for
/// none.
std::string privilege_statements(const ObjectRestoreRun& run, const DumpRequest& request);

/// The directory of a pg_dump that can read `source_major` and write for `live_major`. Throws
/// kUndefinedFile.
std::filesystem::path find_dump_programs(const std::vector<std::filesystem::path>& given,
                                         int source_major, int live_major, const Stop& stop);

}  // namespace holdfast::restore
