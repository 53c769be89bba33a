#include "restore/dump_tools.h"

#include <fcntl.h>
#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <string_view>

#include "base/error.h"
#include "io/file.h"
#include "postgres/child_process.h"
#include "postgres/programs.h"
#include "restore/catalog_text.h"
#include "restore/dump_list.h"

namespace holdfast::restore {
namespace {

constexpr std::uint64_t kListLimit = 4ULL << 30;

/// Building the indexes of a large database takes as long as it takes.
constexpr std::chrono::hours kPatience{24 * 30};

/// The connection string without what a command line must not show, which goes into `environment`.
std::string public_conninfo(const ObjectRestoreRun& run, const postgres::ConnectOptions& options,
                            std::vector<std::string>& environment) {
  auto parameters = postgres::conninfo_parameters(options.conninfo);
  if (options.database) parameters["dbname"] = *options.database;
  // As the client's options they go before what ALTER DATABASE … SET says. The role, because a
  // database's owner may have set one.
  std::string& session = parameters["options"];
  session +=
      " -c role=none -c statement_timeout=0 -c lock_timeout=0 -c default_transaction_read_only=off";
  std::string text;
  for (const auto& [name, value] : parameters) {
    if (name == "password") {
      environment.push_back("PGPASSWORD=" + value);
    } else if (name == "sslpassword") {
      throw Error(sqlstate::kFeatureNotSupported,
                  "restoring objects with sslpassword in --pg-url is not supported yet");
    } else {
      text += fmt::format("{}{}={}", text.empty() ? "" : " ", name, quote_conninfo_value(value));
    }
  }
  environment.push_back("PGAPPNAME=" + session_name(run.job.id()));
  environment.emplace_back("LC_MESSAGES=C");
  return text;
}

/// "relation \"t\" already exists" of "pg_restore: error: … ERROR:  relation …".
std::string first_complaint(const std::string& output) {
  for (const std::string_view mark : {"ERROR:  ", "FATAL:  ", "error: "}) {
    const std::size_t at = output.find(mark);
    if (at == std::string::npos) continue;
    const std::size_t begin = at + mark.size();
    return output.substr(begin, output.find('\n', begin) - begin);
  }
  return "it ended with an error";
}

void run_program(const std::string& program, std::vector<std::string> arguments,
                 std::vector<std::string> environment, const Stop& stop) {
  const auto result = postgres::run_child({.arguments = std::move(arguments),
                                           .timeout = kPatience,
                                           .environment = std::move(environment)},
                                          stop);
  if (result.exit_code == 0) return;
  throw Error(sqlstate::kSystemError,
              fmt::format("{} failed: {}", program, first_complaint(result.output)))
      .detail(result.output);
}

std::string read_text(const ObjectRestoreRun& run, const std::string& path) {
  const auto bytes = io::read_whole(*run.services.files, path, kListLimit);
  if (!bytes) {
    throw Error(sqlstate::kSystemError, fmt::format("pg_restore did not write \"{}\"", path));
  }
  return std::string(as_text(*bytes));
}

void write_text(const std::string& path, std::string_view text) {
  io::FileSystem& files = io::FileSystem::real();
  io::remove_file(files, path);
  const UniqueFd fd = io::open_file(files, path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  io::write_all(files, fd.get(), as_bytes(text), path);
}

std::string keep_privileges(std::string_view list) {
  std::string kept;
  for (const auto& entry : parse_dump_list(list)) {
    if (entry.what.starts_with("ACL ") || entry.what.starts_with("DEFAULT ACL ")) {
      kept += entry.line;
    }
  }
  return kept;
}

/// Without what is for psql alone: one line of it comes before all statements, one after them.
/// Whatever else looks like it is part of a name.
std::string without_restrict(std::string text) {
  constexpr std::string_view kFirst = "\n\\restrict ";
  constexpr std::string_view kLast = "\n\\unrestrict ";
  const std::size_t first = text.find(kFirst);
  if (first == std::string::npos || text.find("\nSET ") < first) return text;
  text.erase(first + 1, text.find('\n', first + 1) - first);
  const std::size_t last = text.rfind(kLast);
  if (last != std::string::npos) text.erase(last + 1);
  return text;
}

/// Relations by the OID of their tablespace.
using Placed = std::map<std::string, std::string>;

/// pg_dump names the tablespace of each relation; those that are missing in the live server are
/// made to look like the default one for it. Only the catalog's word is changed, not a file.
Placed hide_missing_tablespaces(const ObjectRestoreRun& run, postgres::Connection& source,
                                postgres::Connection& live) {
  const auto spaces = source.query(
      "SELECT t.oid, t.spcname, pg_catalog.string_agg(c.oid::text, ',') "
      "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace "
      "WHERE c.oid >= 16384 AND t.spcname !~ '^pg_' GROUP BY 1, 2 ORDER BY 2",
      run.stop());
  Placed hidden;
  for (std::size_t row = 0; row < spaces.rows(); ++row) {
    if (live.query("SELECT FROM pg_catalog.pg_tablespace WHERE spcname = $1", {spaces.text(row, 1)},
                   run.stop())
            .rows() != 0) {
      continue;
    }
    run.job.notice(fmt::format(
        "tablespace \"{}\" does not exist: what was in it is restored in the default one",
        spaces.text(row, 1)));
    source.simple_query(
        fmt::format("UPDATE pg_catalog.pg_class SET reltablespace = 0 WHERE oid IN ({})",
                    spaces.text(row, 2)),
        run.stop());
    hidden[spaces.text(row, 0)] = spaces.text(row, 2);
  }
  return hidden;
}

void show_tablespaces(const ObjectRestoreRun& run, postgres::Connection& source,
                      const Placed& hidden) {
  for (const auto& [space, relations] : hidden) {
    source.simple_query(
        fmt::format("UPDATE pg_catalog.pg_class SET reltablespace = {} WHERE oid IN ({})", space,
                    relations),
        run.stop());
  }
}

/// What belongs to a role that is missing in the live server goes to the user who restores, and
/// privileges of such roles go away.
void take_missing_roles_away(const ObjectRestoreRun& run, postgres::Connection& source,
                             postgres::Connection& live) {
  const std::string heir = run.spec.user();
  if (source.query("SELECT FROM pg_catalog.pg_roles WHERE rolname = $1", {heir}, run.stop())
          .rows() == 0) {
    source.simple_query("CREATE ROLE " + postgres::quote_identifier(heir), run.stop());
  }
  const auto roles = source.query(
      "SELECT rolname FROM pg_catalog.pg_roles WHERE oid >= 16384 "
      "AND rolname NOT IN ($1, $2)",
      // A filter's role is nobody's, and its views are not restored.
      {heir, run.hidden_name(0)}, run.stop());
  for (std::size_t row = 0; row < roles.rows(); ++row) {
    const std::string role = roles.text(row, 0);
    if (live.query("SELECT FROM pg_catalog.pg_roles WHERE rolname = $1", {role}, run.stop())
            .rows() != 0) {
      continue;
    }
    source.simple_query(
        fmt::format("REASSIGN OWNED BY {0} TO {1}; DROP OWNED BY {0}",
                    postgres::quote_identifier(role), postgres::quote_identifier(heir)),
        run.stop());
  }
}

/// pg_restore into `database`, without what it is to restore.
std::vector<std::string> restore_command(const ObjectRestoreRun& run, const std::string& database,
                                         std::vector<std::string>& environment) {
  const std::string target = public_conninfo(run, run.live(database), environment);
  return {run.dump_programs / "pg_restore", "--exit-on-error",
          // Owners and privileges come last of all.
          "--no-owner", "--no-privileges", "--dbname=" + target};
}

std::string section_option(DumpSection section) {
  return section == DumpSection::PreData ? "--section=pre-data" : "--section=post-data";
}

std::string list_entries(const ObjectRestoreRun& run, const DumpRequest& request,
                         const std::vector<std::string>& options) {
  const std::string list = request.file + ".list";
  std::vector<std::string> arguments = {run.dump_programs / "pg_restore", "--list",
                                        "--file=" + list};
  arguments.insert(arguments.end(), options.begin(), options.end());
  arguments.push_back(request.file);
  run_program("pg_restore", std::move(arguments), {}, run.stop());
  return read_text(run, list);
}

}  // namespace

void dump_definitions(const ObjectRestoreRun& run, const DumpRequest& request,
                      postgres::Connection& source, postgres::Connection& live) {
  std::vector<std::string> environment;
  const std::string conninfo = public_conninfo(run, request.source, environment);
  std::vector<std::string> arguments = {run.dump_programs / "pg_dump",
                                        "--format=custom",
                                        "--compress=0",
                                        "--schema-only",
                                        "--no-security-labels",
                                        "--no-subscriptions",
                                        "--quote-all-identifiers",
                                        "--file=" + request.file,
                                        "--dbname=" + conninfo};
  for (const auto& schema : request.schemas) arguments.push_back("--schema=" + schema);
  if (run.spec.grants()) take_missing_roles_away(run, source, live);
  const auto hidden = hide_missing_tablespaces(run, source, live);
  run_program("pg_dump", std::move(arguments), std::move(environment), run.stop());
  show_tablespaces(run, source, hidden);
}

void restore_definitions(const ObjectRestoreRun& run, const DumpRequest& request,
                         const std::string& database, DumpSection section) {
  std::vector<std::string> environment;
  std::vector<std::string> arguments = restore_command(run, database, environment);
  arguments.emplace_back(section_option(section));
  // Indexes and constraints depend on tables only, so that several can be made at once.
  if (section == DumpSection::PostData) {
    arguments.push_back(fmt::format("--jobs={}", run.workers));
  }
  for (const auto& schema : request.schemas) arguments.push_back("--schema=" + schema);
  arguments.push_back(request.file);
  run_program("pg_restore", std::move(arguments), std::move(environment), run.stop());
}

std::string list_definitions(const ObjectRestoreRun& run, const DumpRequest& request,
                             DumpSection section) {
  return list_entries(run, request, {section_option(section)});
}

void restore_listed(const ObjectRestoreRun& run, const DumpRequest& request,
                    const std::string& database, const DumpPart& part, const Stop& stop) {
  if (part.list.empty()) return;
  std::vector<std::string> environment;
  std::vector<std::string> arguments = restore_command(run, database, environment);
  const std::string file = fmt::format("{}.{}", request.file, part.name);
  write_text(file, part.list);
  arguments.push_back("--use-list=" + file);
  if (part.jobs != 1) arguments.push_back(fmt::format("--jobs={}", part.jobs));
  arguments.push_back(request.file);
  run_program("pg_restore", std::move(arguments), std::move(environment), stop);
}

std::string privilege_statements(const ObjectRestoreRun& run, const DumpRequest& request) {
  const std::string wanted = keep_privileges(list_entries(run, request, {}));
  if (wanted.empty()) return {};
  const std::string list = request.file + ".privileges";
  write_text(list, wanted);
  const std::string script = request.file + ".sql";
  run_program("pg_restore",
              {run.dump_programs / "pg_restore", "--no-owner", "--use-list=" + list,
               "--file=" + script, request.file},
              {}, run.stop());
  return without_restrict(read_text(run, script));
}

std::filesystem::path find_dump_programs(const std::vector<std::filesystem::path>& given,
                                         int source_major, int live_major, const Stop& stop) {
  // The live server's own version writes what the server understands and reads all older ones.
  for (int major = live_major; major >= source_major; --major) {
    const auto found = postgres::find_program(given, major, "pg_dump", stop);
    if (found && postgres::program_major(*found, "pg_restore", stop) == major) return *found;
  }
  throw Error(sqlstate::kUndefinedFile,
              fmt::format("could not find pg_dump and pg_restore of PostgreSQL {}", live_major))
      .hint("Install the client programs of that version, or name their directory with --pg-bin.");
}

}  // namespace holdfast::restore
