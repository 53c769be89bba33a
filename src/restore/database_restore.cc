#include <fmt/core.h>

#include <optional>

#include "base/error.h"
#include "restore/copy_tables.h"
#include "restore/dump_tools.h"
#include "restore/object_restore.h"
#include "restore/untrusted_code.h"

namespace holdfast::restore {
namespace {

using postgres::Connection;
using postgres::quote_identifier;
using postgres::quote_literal;

constexpr std::string_view kAllTables =
    "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
    "ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' "
    "AND n.nspname <> 'information_schema'";

/// A large object goes over in pieces of this size.
constexpr std::int64_t kLargeObjectPiece = 1 << 20;

class DatabaseRestore final : public ObjectRestore {
 public:
  DatabaseRestore(const ObjectRestoreRun& run, const collection::proto::Manifest& manifest)
      : run_(run), spec_(run.spec) {
    postgres::WalScope scope;
    for (const auto& name : spec_.databases()) scope.databases[database_oid(manifest, name)] = {};
    scope_ = std::move(scope);
  }

  void check_live() override {
    Connection live = run_.open_live("");
    for (int i = 0; i < spec_.databases_size(); ++i) {
      if (live.query("SELECT FROM pg_catalog.pg_database WHERE datname = $1", {final_name(i)},
                     run_.stop())
              .rows() != 0) {
        throw Error(sqlstate::kDuplicateDatabase,
                    fmt::format("database \"{}\" already exists", final_name(i)));
      }
    }
  }

  std::int64_t build(Workshop& workshop) override {
    workshop.start(scope_, spec_.databases(0), run_.stop());
    run_.job.pause_point("restore.objects_after_recovery");
    std::int64_t rows = 0;
    for (int i = 0; i < spec_.databases_size(); ++i) rows += build_one(workshop, i);
    return rows;
  }

  void finish() override {
    Connection live = run_.open_live("");
    std::string sql = "BEGIN;";
    for (int i = 0; i < spec_.databases_size(); ++i) {
      const auto note = live.query(
          "SELECT pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database "
          "WHERE datname = $1",
          {hidden_name(i)}, run_.stop());
      if (note.rows() == 0) continue;
      // As create_database() wrote it.
      const std::string text = note.text(0, 0);
      const std::string limit = text.substr(0, text.find(' '));
      const std::string comment =
          text.size() > limit.size() ? quote_literal(text.substr(limit.size() + 1)) : "NULL";
      sql += fmt::format("ALTER DATABASE {0} CONNECTION LIMIT {1}; COMMENT ON DATABASE {0} IS {2};",
                         quote_identifier(hidden_name(i)), limit.empty() ? "-1" : limit, comment);
      sql += fmt::format("ALTER DATABASE {} RENAME TO {};", quote_identifier(hidden_name(i)),
                         quote_identifier(final_name(i)));
    }
    try {
      live.simple_query(sql + "COMMIT", run_.stop());
    } catch (const Error& error) {
      if (error.state() != sqlstate::kDuplicateDatabase) throw;
      throw Error(error.state(), error.message())
          .detail("A database of that name was created while the restore was at work.");
    }
  }

  void remove_hidden() override {
    Connection live = run_.open_live("");
    end_sessions(run_, live);
    const auto found = hidden(live);
    for (std::size_t row = 0; row < found.rows(); ++row) {
      const std::string name = found.text(row, 0);
      live.simple_query("DROP DATABASE IF EXISTS " + quote_identifier(name) + " WITH (FORCE)",
                        run_.stop());
    }
  }

  bool hidden_exists() override {
    Connection live = run_.open_live("");
    return hidden(live).rows() != 0;
  }

 private:
  std::string hidden_name(int i) const {
    return fmt::format("{}{}", hidden_prefix(run_.job.id()), i);
  }
  std::string final_name(int i) const {
    return spec_.new_db_name().empty() ? spec_.databases(i) : spec_.new_db_name();
  }
  postgres::QueryResult hidden(Connection& live) const {
    return live.query(
        "SELECT datname FROM pg_catalog.pg_database "
        "WHERE pg_catalog.starts_with(datname, $1) ORDER BY 1",
        {hidden_prefix(run_.job.id())}, run_.stop());
  }

  std::int64_t build_one(Workshop& workshop, int i) {
    const std::string& name = spec_.databases(i);
    Connection source = Connection::open(workshop.connect(name), run_.stop());
    roll_back_prepared(source);
    if (!spec_.administrator()) require_owner(source, name);
    require_harmless(run_, source, std::string(kAllTables));
    create_database(source, workshop.major(), i);
    const DumpRequest dump{.source = workshop.connect(name),
                           .file = fmt::format("{}/{}/definitions-{}.dump", run_.services.workshops,
                                               run_.job.id(), i)};
    Connection target = run_.open_live(hidden_name(i));
    dump_definitions(run_, dump, source, target);
    if (source.query("SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'public'", run_.stop())
            .rows() == 0) {
      target.simple_query("DROP SCHEMA public", run_.stop());
    }
    restore_definitions(run_, dump, hidden_name(i), DumpSection::PreData);
    run_.job.pause_point("restore.objects_after_definitions");
    std::int64_t rows = 0;
    if (!spec_.schema_only() || spec_.verify_data()) {
      rows = copy_tables(run_, {.source = workshop.connect(name),
                                .target = run_.live(hidden_name(i)),
                                .tables = list_table_rows(run_, source, {})});
    }
    if (!spec_.schema_only()) {
      copy_sequences(run_, source, target, {});
      copy_large_objects(source, target);
    }
    run_.job.pause_point("restore.objects_after_copy");
    report("building indexes");
    restore_definitions(run_, dump, hidden_name(i), DumpSection::PostData);
    if (!spec_.schema_only()) {
      refresh_views(source, target);
      report("gathering statistics");
      target.simple_query("ANALYZE", run_.stop());
    }
    return rows;
  }

  void report(std::string phase) const {
    run_.job.report({.bytes_done = 0, .bytes_total = 0, .phase = std::move(phase)});
  }

  /// Transactions that were prepared at the moment had changed nothing that others could see, and
  /// would keep their locks.
  void roll_back_prepared(Connection& source) const {
    const auto open = source.query(
        "SELECT gid FROM pg_catalog.pg_prepared_xacts "
        "WHERE database = pg_catalog.current_database()",
        run_.stop());
    for (std::size_t row = 0; row < open.rows(); ++row) {
      source.simple_query("ROLLBACK PREPARED " + quote_literal(open.text(row, 0)), run_.stop());
    }
  }

  void require_owner(Connection& source, const std::string& name) const {
    const std::string owner =
        source
            .query(
                "SELECT pg_catalog.pg_get_userbyid(datdba) FROM pg_catalog.pg_database "
                "WHERE datname = pg_catalog.current_database()",
                run_.stop())
            .text(0, 0);
    for (const auto& role : spec_.roles()) {
      if (role == owner) return;
    }
    throw Error(sqlstate::kInsufficientPrivilege, fmt::format("must be owner of database {}", name))
        .detail(fmt::format("In the backup it belongs to role \"{}\".", owner));
  }

  /// As it was, but hidden: nobody but superusers can connect, and its comment keeps the connection
  /// limit and the comment that it will get.
  void create_database(Connection& source, int source_major, int i) {
    const std::string locale = source_major >= 17   ? "datlocale"
                               : source_major >= 15 ? "daticulocale"
                                                    : "NULL::text";
    const auto facts = source.query(
        fmt::format("SELECT pg_catalog.pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, "
                    "{}, {}, {}, t.spcname, d.datconnlimit, pg_catalog.pg_get_userbyid(d.datdba), "
                    "pg_catalog.shobj_description(d.oid, 'pg_database') "
                    "FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t "
                    "ON t.oid = d.dattablespace WHERE d.datname = pg_catalog.current_database()",
                    source_major >= 15 ? "d.datlocprovider::text" : "'c'", locale,
                    source_major >= 16 ? "d.daticurules" : "NULL::text"),
        run_.stop());
    Connection live = run_.open_live("");
    std::string owner = spec_.user();
    if (spec_.grants() && role_exists(live, facts.text(0, 8))) owner = facts.text(0, 8);
    std::string sql = fmt::format(
        "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {} "
        "CONNECTION LIMIT 0",
        quote_identifier(hidden_name(i)), quote_identifier(owner), quote_literal(facts.text(0, 0)),
        quote_literal(facts.text(0, 1)), quote_literal(facts.text(0, 2)));
    if (run_.live_major >= 15) {
      const std::string provider = facts.text(0, 3);
      sql += provider == "i"   ? " LOCALE_PROVIDER icu"
             : provider == "b" ? " LOCALE_PROVIDER builtin"
                               : " LOCALE_PROVIDER libc";
      const std::string_view key = provider == "b" ? "BUILTIN_LOCALE" : "ICU_LOCALE";
      if (const auto& value = facts.value(0, 4)) {
        sql += fmt::format(" {} {}", key, quote_literal(*value));
      }
      if (const auto& rules = facts.value(0, 5)) sql += " ICU_RULES " + quote_literal(*rules);
    }
    if (const std::string space = facts.text(0, 6); space != "pg_default") {
      if (live.query("SELECT FROM pg_catalog.pg_tablespace WHERE spcname = $1", {space},
                     run_.stop())
              .rows() != 0) {
        sql += " TABLESPACE " + quote_identifier(space);
      } else {
        run_.job.notice(fmt::format(
            "tablespace \"{}\" does not exist: database \"{}\" is restored in the default one",
            space, final_name(i)));
      }
    }
    live.simple_query(sql, run_.stop());
    std::string note = facts.text(0, 7);
    if (const auto& comment = facts.value(0, 9)) note += " " + *comment;
    live.simple_query(fmt::format("COMMENT ON DATABASE {} IS {}", quote_identifier(hidden_name(i)),
                                  quote_literal(note)),
                      run_.stop());
    restore_settings(source, live, i);
  }

  bool role_exists(Connection& live, const std::string& role) const {
    return live.query("SELECT FROM pg_catalog.pg_roles WHERE rolname = $1", {role}, run_.stop())
               .rows() != 0;
  }

  /// ALTER DATABASE … SET.
  void restore_settings(Connection& source, Connection& live, int i) const {
    const auto settings = source.query(
        "SELECT r.rolname, s.setting FROM pg_catalog.pg_db_role_setting d "
        "JOIN pg_catalog.pg_database b ON b.oid = d.setdatabase "
        "AND b.datname = pg_catalog.current_database() "
        "LEFT JOIN pg_catalog.pg_roles r ON r.oid = d.setrole "
        "CROSS JOIN LATERAL pg_catalog.unnest(d.setconfig) AS s(setting) "
        "WHERE d.setrole = 0 OR r.rolname IS NOT NULL",
        run_.stop());
    for (std::size_t row = 0; row < settings.rows(); ++row) {
      const std::string setting = settings.text(row, 1);
      const std::size_t equals = setting.find('=');
      if (equals == std::string::npos) continue;
      const std::string role = settings.text(row, 0);
      if (!role.empty() && (!spec_.grants() || !role_exists(live, role))) continue;
      const std::string target =
          role.empty() ? "ALTER DATABASE " + quote_identifier(hidden_name(i))
                       : fmt::format("ALTER ROLE {} IN DATABASE {}", quote_identifier(role),
                                     quote_identifier(hidden_name(i)));
      if (!spec_.administrator()) {
        run_.job.notice(fmt::format("setting \"{}\" of the database is not restored",
                                    setting.substr(0, equals)));
        continue;
      }
      // Lists such as search_path are stored quoted part by part, ready to be used again.
      const std::string name = setting.substr(0, equals);
      const bool list = live.query(
                                "SELECT FROM pg_catalog.pg_settings WHERE name = $1 AND name IN "
                                "('search_path', 'temp_tablespaces', 'session_preload_libraries', "
                                "'local_preload_libraries')",
                                {name}, run_.stop())
                            .rows() != 0;
      const std::string value = setting.substr(equals + 1);
      // SET … FROM CURRENT stores a list as it is, so that it may hold anything.
      if (list && value.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                          "0123456789_$\", ") != std::string::npos) {
        run_.job.notice(fmt::format("setting \"{}\" of the database is not restored", name));
        continue;
      }
      live.simple_query(fmt::format("{} SET {} TO {}", target, quote_identifier(name),
                                    list && !value.empty() ? value : quote_literal(value)),
                        run_.stop());
    }
  }

  void copy_large_objects(Connection& source, Connection& target) const {
    const auto objects = source.query(
        "SELECT m.oid, pg_catalog.pg_get_userbyid(m.lomowner), "
        "COALESCE((SELECT pg_catalog.max(pageno)::bigint + 1 FROM pg_catalog.pg_largeobject l "
        "          WHERE l.loid = m.oid), 0) * 2048 "
        "FROM pg_catalog.pg_largeobject_metadata m ORDER BY m.oid",
        run_.stop());
    for (std::size_t row = 0; row < objects.rows(); ++row) {
      const std::string oid = objects.text(row, 0);
      std::string owner = spec_.user();
      if (spec_.grants() && role_exists(target, objects.text(row, 1))) owner = objects.text(row, 1);
      target.simple_query(
          fmt::format(
              "BEGIN; SELECT pg_catalog.lo_create({0}); ALTER LARGE OBJECT {0} OWNER TO {1}", oid,
              quote_identifier(owner)),
          run_.stop());
      for (std::int64_t at = 0; at < objects.integer(row, 2); at += kLargeObjectPiece) {
        const auto piece =
            source.query("SELECT pg_catalog.lo_get($1::pg_catalog.oid, $2::bigint, $3::int)",
                         {oid, std::to_string(at), std::to_string(kLargeObjectPiece)}, run_.stop());
        if (piece.text(0, 0) == "\\x") continue;
        target.query("SELECT pg_catalog.lo_put($1::pg_catalog.oid, $2::bigint, $3::bytea)",
                     {oid, std::to_string(at), piece.text(0, 0)}, run_.stop());
      }
      target.simple_query("COMMIT", run_.stop());
    }
  }

  /// A view that reads another one can only be filled after it.
  void refresh_views(Connection& source, Connection& target) const {
    const auto views = source.query(
        "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) "
        "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind = 'm' AND c.relispopulated ORDER BY c.oid",
        run_.stop());
    std::vector<std::string> left;
    for (std::size_t row = 0; row < views.rows(); ++row) left.push_back(views.text(row, 0));
    while (!left.empty()) {
      std::vector<std::string> failed;
      std::optional<Error> failure;
      for (const auto& view : left) {
        try {
          target.simple_query("REFRESH MATERIALIZED VIEW " + view, run_.stop());
        } catch (const Error& error) {
          if (error.state() != sqlstate::kObjectNotInPrerequisiteState) throw;
          failure = error;
          failed.push_back(view);
        }
      }
      if (failed.size() == left.size()) throw Error(*failure);
      left = std::move(failed);
    }
  }

  const ObjectRestoreRun& run_;
  const proto::ObjectRestoreSpec& spec_;
  postgres::WalScope scope_;
};

}  // namespace

std::unique_ptr<ObjectRestore> make_database_restore(const ObjectRestoreRun& run,
                                                     const collection::proto::Manifest& manifest) {
  return std::make_unique<DatabaseRestore>(run, manifest);
}

}  // namespace holdfast::restore
