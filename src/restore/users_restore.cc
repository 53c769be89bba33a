#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "restore/database_settings.h"
#include "restore/object_restore.h"

namespace holdfast::restore {
namespace {

using postgres::Connection;
using postgres::quote_identifier;
using postgres::quote_literal;

/// How many names a notice lists.
constexpr std::size_t kMostNames = 20;

/// Roles that users made. Not the bootstrap superuser, whom every server has, nor what a restore
/// that ran during the backup made for itself.
constexpr std::string_view kRoles =
    "SELECT r.rolname, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, "
    " r.rolreplication, r.rolbypassrls, r.rolconnlimit, r.rolpassword, r.rolvaliduntil, "
    " pg_catalog.shobj_description(r.oid, 'pg_authid') "
    "FROM pg_catalog.pg_authid r WHERE r.oid >= 16384 "
    "AND r.rolname !~ '^holdfast_restore_[0-9]+_[0-9a-f]+(_[0-9]+)?_0$' ORDER BY r.rolname";

/// Keeps statements that hold hashes out of the server's log, of statistics and of activity views.
/// Names with a point are those of modules that may or may not be loaded.
constexpr std::string_view kQuiet =
    "SET log_statement = 'none'; SET log_min_duration_statement = -1; "
    "SET log_min_duration_sample = -1; SET log_transaction_sample_rate = 0; "
    "SET log_duration = off; SET log_min_error_statement = 'panic'; SET debug_print_parse = off; "
    "SET debug_print_rewritten = off; "
    "SET track_activities = off; SET pg_stat_statements.track = 'none'; "
    "SET pg_stat_statements.track_utility = off; SET pgaudit.log = 'none'";
/// Not every version has it.
constexpr std::string_view kQuietRaw =
    "SELECT pg_catalog.set_config(name, 'off', false) FROM pg_catalog.pg_settings "
    "WHERE name = 'debug_print_raw_parse'";

/// A hash, as PostgreSQL stores it; anything else would be taken for the password itself.
/// Source: PostgreSQL src/backend/libpq/crypt.c (get_password_type).
bool is_hash(std::string_view password) {
  constexpr std::size_t kMd5Length = 35;
  if (password.starts_with("SCRAM-SHA-256$")) return true;
  return password.starts_with("md5") && password.size() == kMd5Length &&
         password.find_first_not_of("0123456789abcdef", 3) == std::string_view::npos;
}

std::string listed(const std::vector<std::string>& names) {
  const auto shown = std::min(names.size(), kMostNames);
  std::string text =
      fmt::format("\"{}\"", fmt::join(names.begin(), names.begin() + shown, "\", \""));
  if (shown < names.size()) text += fmt::format(" and {} more", names.size() - shown);
  return text;
}

/// Roles with their attributes, password hashes, settings, comments and memberships. They are made
/// in one transaction at the end of build(): there is nothing to hide before. A repetition after
/// it finds them and changes nothing. Hashes are in no checkpoint, log or message.
class UsersRestore final : public ObjectRestore {
 public:
  UsersRestore(const ObjectRestoreRun& run, const collection::proto::Manifest& manifest)
      : run_(run) {
    for (const auto& object : manifest.objects()) {
      if (object.type() != "database") continue;
      candidates_.push_back({.name = object.name(), .oid = object.oid()});
    }
    // The one that every server has is small.
    std::stable_partition(candidates_.begin(), candidates_.end(),
                          [](const Candidate& candidate) { return candidate.name == "postgres"; });
  }

  void check_live() override {}

  std::int64_t build(Workshop& workshop) override {
    Connection source = open(workshop);
    run_.job.pause_point("restore.objects_after_recovery");
    Connection live = run_.open_live("");
    live.simple_query(std::string(kQuiet), run_.stop());
    live.simple_query(std::string(kQuietRaw), run_.stop());
    live.simple_query("BEGIN", run_.stop());
    existing_ = names(live);
    std::vector<std::string> kept;
    const auto roles = source.query(std::string(kRoles), run_.stop());
    for (std::size_t row = 0; row < roles.rows(); ++row) {
      const std::string name = roles.text(row, 0);
      if (existing_.contains(name)) {
        kept.push_back(name);
      } else {
        create(live, roles, row);
      }
    }
    restore_settings(source, live);
    const auto memberships = restore_memberships(source, live);
    run_.job.pause_point("restore.users_before_commit");
    run_.stop().check();
    live.simple_query("COMMIT", Stop::never());
    if (!kept.empty()) run_.job.notice("roles that exist are kept as they are: " + listed(kept));
    if (!memberships.empty()) {
      run_.job.notice(
          fmt::format("memberships of roles that exist in roles that exist are not restored: {}",
                      listed(memberships)));
    }
    return static_cast<std::int64_t>(created_.size());
  }

  void finish() override {}
  void remove_hidden() override {}
  Built built() override { return Built::Final; }

 private:
  struct Candidate {
    std::string name;
    std::uint32_t oid = 0;
  };

  /// In the first database that is there at the moment, and takes connections.
  Connection open(Workshop& workshop) {
    std::optional<Error> last;
    for (const auto& candidate : candidates_) {
      try {
        workshop.start(workshop.catalogs_of(candidate.oid, {}, run_.stop()), candidate.name,
                       run_.stop());
        return workshop.open(candidate.name, run_.stop());
      } catch (const Error& error) {
        if (error.state() != sqlstate::kInvalidCatalogName &&
            error.state() != sqlstate::kObjectNotInPrerequisiteState) {
          throw;
        }
        last = error;
      }
    }
    if (last) throw *last;
    throw Error(sqlstate::kUndefinedObject, "the backup has no database that can be connected to");
  }

  std::set<std::string> names(Connection& live) const {
    const auto rows = live.query("SELECT rolname FROM pg_catalog.pg_roles", run_.stop());
    std::set<std::string> names;
    for (std::size_t row = 0; row < rows.rows(); ++row) names.insert(rows.text(row, 0));
    return names;
  }

  void create(Connection& live, const postgres::QueryResult& roles, std::size_t row) {
    const std::string name = roles.text(row, 0);
    std::string sql = "CREATE ROLE " + quote_identifier(name);
    constexpr std::string_view kAttributes[] = {
        "SUPERUSER", "INHERIT", "CREATEROLE", "CREATEDB", "LOGIN", "REPLICATION", "BYPASSRLS"};
    for (std::size_t i = 0; i < std::size(kAttributes); ++i) {
      sql += fmt::format(" {}{}", roles.boolean(row, i + 1) ? "" : "NO", kAttributes[i]);
    }
    sql += fmt::format(" CONNECTION LIMIT {}", roles.integer(row, 8));
    if (const auto& password = roles.value(row, 9)) {
      if (is_hash(*password)) {
        sql += " PASSWORD " + quote_literal(*password);
      } else {
        run_.job.notice(
            fmt::format("the password of role \"{}\" is of an unknown kind: it is not "
                        "restored",
                        name));
      }
    }
    if (const auto& until = roles.value(row, 10)) sql += " VALID UNTIL " + quote_literal(*until);
    live.simple_query(sql, run_.stop());
    if (const auto& comment = roles.value(row, 11)) {
      live.simple_query(
          fmt::format("COMMENT ON ROLE {} IS {}", quote_identifier(name), quote_literal(*comment)),
          run_.stop());
    }
    created_.insert(name);
  }

  /// ALTER ROLE … SET, of all databases. What this server does not know is left out.
  void restore_settings(Connection& source, Connection& live) const {
    const auto settings = source.query(
        "SELECT r.rolname, s.setting FROM pg_catalog.pg_db_role_setting d "
        "JOIN pg_catalog.pg_roles r ON r.oid = d.setrole "
        "CROSS JOIN LATERAL pg_catalog.unnest(d.setconfig) AS s(setting) "
        "WHERE d.setdatabase = 0 ORDER BY 1",
        run_.stop());
    for (std::size_t row = 0; row < settings.rows(); ++row) {
      const std::string role = settings.text(row, 0);
      const std::string setting = settings.text(row, 1);
      const std::size_t equals = setting.find('=');
      if (!created_.contains(role) || equals == std::string::npos) continue;
      const std::string name = setting.substr(0, equals);
      live.simple_query("SAVEPOINT setting", run_.stop());
      try {
        live.simple_query(
            fmt::format("ALTER ROLE {} SET {} TO {}", quote_identifier(role),
                        quote_identifier(name), setting_value(name, setting.substr(equals + 1))),
            run_.stop());
      } catch (const Error& error) {
        if (error.state() == sqlstate::kConnectionFailure) throw;
        live.simple_query("ROLLBACK TO SAVEPOINT setting", run_.stop());
        run_.job.notice(fmt::format("setting \"{}\" of role \"{}\" is not restored: {}", name, role,
                                    error.message()));
      }
    }
  }

  /// Those in which one side is new. Gives the others that the live server lacks: somebody may
  /// have taken them away on purpose.
  std::vector<std::string> restore_memberships(Connection& source, Connection& live) const {
    const bool options = source.server_major() >= 16;
    const auto members = source.query(
        fmt::format("SELECT g.rolname, m.rolname, pg_catalog.bool_or(a.admin_option), {} "
                    "FROM pg_catalog.pg_auth_members a "
                    "JOIN pg_catalog.pg_roles g ON g.oid = a.roleid "
                    "JOIN pg_catalog.pg_roles m ON m.oid = a.member GROUP BY 1, 2 ORDER BY 1, 2",
                    options ? "pg_catalog.bool_or(a.inherit_option), "
                              "pg_catalog.bool_or(a.set_option)"
                            : "true, true"),
        run_.stop());
    const auto there = [&](const std::string& role) {
      return created_.contains(role) || existing_.contains(role);
    };
    std::vector<std::string> left;
    for (std::size_t row = 0; row < members.rows(); ++row) {
      const std::string group = members.text(row, 0);
      const std::string member = members.text(row, 1);
      if (!there(group) || !there(member)) continue;
      if (!created_.contains(group) && !created_.contains(member)) {
        if (!is_member(live, group, member)) left.push_back(member + " in " + group);
        continue;
      }
      std::string sql =
          fmt::format("GRANT {} TO {}", quote_identifier(group), quote_identifier(member));
      const auto word = [&](std::size_t column) {
        return members.boolean(row, column) ? "TRUE" : "FALSE";
      };
      if (options && run_.live_major >= 16) {
        sql += fmt::format(" WITH ADMIN {}, INHERIT {}, SET {}", word(2), word(3), word(4));
      } else if (members.boolean(row, 2)) {
        sql += " WITH ADMIN OPTION";
      }
      live.simple_query(sql, run_.stop());
    }
    return left;
  }

  bool is_member(Connection& live, const std::string& group, const std::string& member) const {
    return live.query(
                   "SELECT FROM pg_catalog.pg_auth_members a "
                   "JOIN pg_catalog.pg_roles g ON g.oid = a.roleid AND g.rolname = $1 "
                   "JOIN pg_catalog.pg_roles m ON m.oid = a.member AND m.rolname = $2",
                   {group, member}, run_.stop())
               .rows() != 0;
  }

  const ObjectRestoreRun& run_;
  std::vector<Candidate> candidates_;
  std::set<std::string> existing_;  ///< in the live server, before
  std::set<std::string> created_;
};

}  // namespace

std::unique_ptr<ObjectRestore> make_users_restore(const ObjectRestoreRun& run,
                                                  const collection::proto::Manifest& manifest) {
  return std::make_unique<UsersRestore>(run, manifest);
}

}  // namespace holdfast::restore
