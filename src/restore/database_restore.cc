#include <fmt/core.h>

#include <algorithm>
#include <future>
#include <map>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "restore/copy_tables.h"
#include "restore/database_settings.h"
#include "restore/deferred_checks.h"
#include "restore/dump_tools.h"
#include "restore/early_indexes.h"
#include "restore/handover.h"
#include "restore/index_marks.h"
#include "restore/object_restore.h"
#include "restore/statistics.h"
#include "restore/table_views.h"
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
    for (const auto& name : spec_.databases()) oids_.insert(database_oid(manifest, name));
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
    recover(workshop);
    run_.steps.finished("recovered the databases in a workshop");
    run_.job.pause_point("restore.objects_after_recovery");
    std::int64_t rows = 0;
    for (int i = 0; i < spec_.databases_size(); ++i) rows += build_one(workshop, i);
    return rows;
  }

  void finish() override {
    Connection live = run_.open_live("");
    live.simple_query("BEGIN", run_.stop());
    for (const auto& database : run_.checkpoint.databases()) {
      if (!is_ours(live, database)) {
        throw Error(sqlstate::kObjectNotInPrerequisiteState,
                    fmt::format("hidden database \"{}\", which was to become \"{}\", was dropped "
                                "or renamed meanwhile",
                                database.name(), database.final_name()))
            .hint("Run the statement again.");
      }
      for (const auto& statement : last_statements(database)) {
        live.simple_query(statement, run_.stop());
      }
    }
    drop_builder(run_, live);
    try {
      for (const auto& database : run_.checkpoint.databases()) {
        live.simple_query(
            fmt::format("ALTER DATABASE {} RENAME TO {}", quote_identifier(database.name()),
                        quote_identifier(database.final_name())),
            run_.stop());
      }
      live.simple_query("COMMIT", run_.stop());
    } catch (const Error& error) {
      if (error.state() != sqlstate::kDuplicateDatabase) throw;
      throw Error(error.state(), error.message())
          .detail("A database of that name was created while the restore was at work.");
    }
  }

  void remove_hidden() override {
    Connection live = run_.open_live("");
    end_sessions(run_, live);
    for (const auto& database : run_.checkpoint.databases()) {
      if (!is_ours(live, database)) continue;
      live.simple_query(
          "DROP DATABASE IF EXISTS " + quote_identifier(database.name()) + " WITH (FORCE)",
          run_.stop());
    }
    drop_builder(run_, live);
  }

  Built built() override {
    Connection live = run_.open_live("");
    bool any = false;
    for (const auto& database : run_.checkpoint.databases()) {
      if (is_ours(live, database)) return Built::Hidden;
      any = any || live.query("SELECT FROM pg_catalog.pg_database WHERE oid = $1 AND datname <> $2",
                              {std::to_string(database.oid()), database.name()}, run_.stop())
                           .rows() != 0;
    }
    return any ? Built::Final : Built::Gone;
  }

 private:
  /// Which files hold rows is told by pages that are not recovered yet: the recovered ones decide.
  void recover(Workshop& workshop) const {
    postgres::WalScope scope = workshop.rows_of(oids_, run_.stop());
    if (recovers_all_rows(workshop, scope)) return;
    log::info("a table has a file that seemed to be an index's, recovering with all files");
    for (auto& [oid, relations] : scope.databases) relations = {};
    workshop.start(scope, spec_.databases(0), run_.stop());
  }

  bool recovers_all_rows(Workshop& workshop, const postgres::WalScope& scope) const {
    try {
      workshop.start(scope, spec_.databases(0), run_.stop());
      return std::ranges::all_of(spec_.databases(), [&](const std::string& name) {
        Connection source = Connection::open(workshop.connect(name), run_.stop());
        const auto oid = source.query(
            "SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()",
            run_.stop());
        const auto found = scope.databases.find(static_cast<std::uint32_t>(oid.integer(0, 0)));
        return found == scope.databases.end() ||
               rows_need_none_of(source, found->second.files, run_.stop());
      });
    } catch (const Error& error) {
      // Where it is a catalog's, nobody can log in to ask.
      if (error.state() != sqlstate::kUndefinedFile) throw;
      return false;
    }
  }

  const std::string& hidden_name(int i) const { return run_.checkpoint.databases(i).name(); }
  std::string final_name(int i) const {
    return spec_.new_db_name().empty() ? spec_.databases(i) : spec_.new_db_name();
  }
  /// With its name, its OID, and holdfast's own role as owner, which nobody else can give away.
  bool is_ours(Connection& live, const proto::HiddenDatabase& database) const {
    return live.query(
                   "SELECT FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r "
                   "ON r.oid = d.datdba WHERE d.datname = $1 "
                   "AND ($2 = '0' OR d.oid = $2::pg_catalog.oid) AND r.rolname = current_user",
                   {database.name(), std::to_string(database.oid())}, run_.stop())
               .rows() != 0;
  }

  /// What a database is given in the last transaction, but for its name.
  static std::vector<std::string> last_statements(const proto::HiddenDatabase& database) {
    const std::string name = quote_identifier(database.name());
    std::vector<std::string> statements = {
        fmt::format("ALTER DATABASE {} CONNECTION LIMIT {}", name, database.connection_limit()),
        fmt::format("ALTER DATABASE {} OWNER TO {}", name, quote_identifier(database.owner()))};
    if (database.has_comment()) {
      statements.push_back(
          fmt::format("COMMENT ON DATABASE {} IS {}", name, quote_literal(database.comment())));
    }
    for (const auto& setting : database.settings()) {
      const std::string target =
          setting.role().empty()
              ? "ALTER DATABASE " + name
              : fmt::format("ALTER ROLE {} IN DATABASE {}", quote_identifier(setting.role()), name);
      statements.push_back(fmt::format("{} SET {} TO {}", target, quote_identifier(setting.name()),
                                       setting_value(setting.name(), setting.value())));
    }
    return statements;
  }

  std::int64_t build_one(Workshop& workshop, int i) {
    const std::string& name = spec_.databases(i);
    Connection source = workshop.open(name, run_.stop());
    roll_back_prepared(source);
    if (!spec_.administrator()) require_owner(source, name);
    require_harmless(run_, source, std::string(kAllTables));
    {
      Connection live = run_.open_live("");
      require_trusted_code(run_, source, live, {});
      require_authors_own(run_, source, live);
      if (i == 0) make_builder(run_, live);
    }
    const DeferredChecks checks(run_, source);
    const IndexMarks marks(run_, source, {});
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
    run_.steps.finished("made the definitions");
    run_.job.pause_point("restore.objects_after_definitions");
    give_to_builder(run_, target, {});
    const HandOver handover = plan_hand_over(workshop, source, target, dump, i);
    const auto views = list_filled_views(run_, source, {});
    hide_indexes(source, "c.oid >= 16384", run_.stop());
    if (!spec_.schema_only()) {
      copy_sequences(run_, source, target, {});
      copy_large_objects(source, target);
    }
    std::vector<TableRows> tables;
    if (!spec_.schema_only() || spec_.verify_data()) tables = list_table_rows(run_, source, {});
    const EarlyIndexes indexes(run_, source, dump, hidden_name(i),
                               spec_.schema_only() ? std::vector<TableRows>() : tables);
    // Of the workshop nothing is needed then, and to remove it waits for the disk.
    std::future<void> ended;
    const auto end_workshop = [&] {
      if (i + 1 < spec_.databases_size()) return;
      ended = std::async(std::launch::async, [&workshop, tag = log::thread_tag()] {
        const log::ThreadTag thread_tag(tag);
        workshop.end();
      });
    };
    const std::int64_t rows =
        copy_tables(run_, {.source = workshop.connect(name),
                           .target = run_.live(hidden_name(i)),
                           .tables = tables,
                           .indexes = spec_.schema_only() ? nullptr : &indexes,
                           .all_copied = end_workshop});
    run_.steps.finished("copied the rows and built the indexes of large tables");
    run_.job.pause_point("restore.objects_after_copy");
    report("building indexes");
    indexes.restore_rest();
    checks.settle(target, {});
    marks.settle(target);
    run_.steps.finished("built what else comes after the rows");
    if (!spec_.schema_only()) {
      refresh_views(run_, target, views);
      gather_statistics(run_, run_.live(hidden_name(i)), list_analyzed(target, run_.stop()),
                        run_.stop());
      run_.steps.finished("gathered statistics");
    }
    hand_over(handover, target);
    run_.steps.finished("prepared owners and privileges");
    return rows;
  }

  /// What is done last in the database, all of it known while the workshop is there.
  struct HandOver {
    std::vector<std::string> statements;
    std::string privileges;
    std::vector<std::string> triggers;
  };

  HandOver plan_hand_over(const Workshop& workshop, Connection& source, Connection& target,
                          const DumpRequest& dump, int i) const {
    HandOver plan;
    plan.statements =
        ownership_statements(run_, target, list_owned_objects(source, {}, run_.stop()));
    if (spec_.grants()) {
      // Made by initdb, it is in no list. Its owner was somebody's choice only if it is another.
      const auto schema = source.query(
          "SELECT pg_catalog.pg_get_userbyid(nspowner) FROM pg_catalog.pg_namespace "
          "WHERE nspname = 'public' AND oid < 16384 AND nspowner >= 16384",
          run_.stop());
      if (schema.rows() != 0) {
        plan.statements.push_back("ALTER SCHEMA public OWNER TO " +
                                  quote_identifier(schema.text(0, 0)));
      }
      plan.privileges = privilege_statements(run_, dump);
    }
    if (!spec_.schema_only()) add_large_object_owners(source, target, plan.statements);
    for (const auto& trigger : workshop.event_triggers(spec_.databases(i))) {
      const std::string_view how = trigger.enabled == 'A'   ? "ENABLE ALWAYS"
                                   : trigger.enabled == 'R' ? "ENABLE REPLICA"
                                   : trigger.enabled == 'O' ? "ENABLE"
                                                            : "DISABLE";
      plan.triggers.push_back(
          fmt::format("ALTER EVENT TRIGGER {} {}", quote_identifier(trigger.name), how));
    }
    return plan;
  }

  /// Nobody can connect to the database before its own owner may.
  void hand_over(const HandOver& plan, Connection& target) const {
    run_in_batches(target, plan.statements, run_.stop());
    if (!plan.privileges.empty()) target.simple_query(plan.privileges, run_.stop());
    // These do not fire any themselves.
    for (const auto& statement : plan.triggers) target.simple_query(statement, run_.stop());
  }

  void add_large_object_owners(Connection& source, Connection& target,
                               std::vector<std::string>& statements) const {
    const auto objects = source.query(
        "SELECT m.oid, pg_catalog.pg_get_userbyid(m.lomowner) "
        "FROM pg_catalog.pg_largeobject_metadata m ORDER BY m.oid",
        run_.stop());
    std::map<std::string, std::string> heirs;
    for (std::size_t row = 0; row < objects.rows(); ++row) {
      const std::string before = objects.text(row, 1);
      std::string& owner = heirs[before];
      if (owner.empty()) {
        owner = spec_.grants() && role_exists(target, before) ? before : spec_.user();
      }
      statements.push_back(fmt::format("ALTER LARGE OBJECT {} OWNER TO {}", objects.text(row, 0),
                                       quote_identifier(owner)));
    }
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

  /// As it was, but hidden: holdfast's own role owns it, and nobody but superusers can connect. The
  /// checkpoint keeps what it will be given.
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
    auto& database = *run_.checkpoint.add_databases();
    database.set_name(run_.hidden_name(static_cast<std::size_t>(i) + 1));
    database.set_final_name(final_name(i));
    const bool keep_owner = spec_.grants() && role_exists(live, facts.text(0, 8));
    database.set_owner(keep_owner ? facts.text(0, 8) : spec_.user());
    database.set_connection_limit(static_cast<std::int32_t>(facts.integer(0, 7)));
    if (const auto& comment = facts.value(0, 9)) database.set_comment(*comment);
    read_settings(source, live, database);
    run_.save_checkpoint();
    std::string sql = fmt::format(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {} "
        "CONNECTION LIMIT 0",
        quote_identifier(hidden_name(i)), quote_literal(facts.text(0, 0)),
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
    const auto made = live.query("SELECT oid FROM pg_catalog.pg_database WHERE datname = $1",
                                 {hidden_name(i)}, run_.stop());
    database.set_oid(static_cast<std::uint32_t>(made.integer(0, 0)));
    run_.save_checkpoint();
    // What the server does not accept is better known before the work than after it.
    live.simple_query("BEGIN", run_.stop());
    for (const auto& statement : last_statements(database)) {
      live.simple_query(statement, run_.stop());
    }
    live.simple_query("ROLLBACK", run_.stop());
  }

  bool role_exists(Connection& live, const std::string& role) const {
    return live.query("SELECT FROM pg_catalog.pg_roles WHERE rolname = $1", {role}, run_.stop())
               .rows() != 0;
  }

  /// ALTER DATABASE … SET, for the end: a session of holdfast's must not start with them.
  void read_settings(Connection& source, Connection& live, proto::HiddenDatabase& database) const {
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
      if (!spec_.administrator()) {
        run_.job.notice(fmt::format("setting \"{}\" of the database is not restored",
                                    setting.substr(0, equals)));
        continue;
      }
      auto& kept = *database.add_settings();
      kept.set_role(role);
      kept.set_name(setting.substr(0, equals));
      kept.set_value(setting.substr(equals + 1));
    }
  }

  void copy_large_objects(Connection& source, Connection& target) const {
    const auto objects = source.query(
        "SELECT m.oid, "
        "COALESCE((SELECT pg_catalog.max(pageno)::bigint + 1 FROM pg_catalog.pg_largeobject l "
        "          WHERE l.loid = m.oid), 0) * 2048 "
        "FROM pg_catalog.pg_largeobject_metadata m ORDER BY m.oid",
        run_.stop());
    for (std::size_t row = 0; row < objects.rows(); ++row) {
      const std::string oid = objects.text(row, 0);
      target.simple_query(fmt::format("BEGIN; SELECT pg_catalog.lo_create({})", oid), run_.stop());
      for (std::int64_t at = 0; at < objects.integer(row, 1); at += kLargeObjectPiece) {
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

  const ObjectRestoreRun& run_;
  const proto::ObjectRestoreSpec& spec_;
  std::set<std::uint32_t> oids_;
};

}  // namespace

std::unique_ptr<ObjectRestore> make_database_restore(const ObjectRestoreRun& run,
                                                     const collection::proto::Manifest& manifest) {
  return std::make_unique<DatabaseRestore>(run, manifest);
}

}  // namespace holdfast::restore
