#pragma once

#include <cstddef>
#include <string>
#include <string_view>
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

/// What the dump has in a section (dump_list.h), in the order in which it is restored.
std::string list_definitions(const ObjectRestoreRun& run, const DumpRequest& request,
                             DumpSection section);
struct DumpPart {
  std::string name;      ///< no other part of this dump has it
  std::string list;      ///< lines of list_definitions(), in its order; empty: nothing
  std::size_t jobs = 1;  ///< so many at once
};
/// The same as restore_definitions() for a part. Its entries are taken out of their surroundings:
/// to pg_restore, a comment has the section of what stands before it, and is in a schema only if
/// what it belongs to is restored with it. So neither is asked for. From any thread.
void restore_listed(const ObjectRestoreRun& run, const DumpRequest& request,
                    const std::string& database, const DumpPart& part, const Stop& stop);

/// SQL that gives the privileges which the dump has, to be run once owners are right; empty for
/// none.
std::string privilege_statements(const ObjectRestoreRun& run, const DumpRequest& request);

/// The directory of a pg_dump that can read `source_major` and write for `live_major`. Throws
/// kUndefinedFile.
std::filesystem::path find_dump_programs(const std::vector<std::filesystem::path>& given,
                                         int source_major, int live_major, const Stop& stop);

}  // namespace holdfast::restore
