#include "restore/table_restore.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/worker_pool.h"
#include "collection/scope.h"
#include "restore/catalog_text.h"
#include "restore/copy_tables.h"
#include "restore/deferred_checks.h"
#include "restore/dump_tools.h"
#include "restore/early_indexes.h"
#include "restore/handover.h"
#include "restore/index_marks.h"
#include "restore/known_files.h"
#include "restore/row_filter.h"
#include "restore/staging_schemas.h"
#include "restore/statistics.h"
#include "restore/table_preparation.h"
#include "restore/table_views.h"
#include "restore/untrusted_code.h"

namespace holdfast::restore {
namespace {

using postgres::Connection;
using postgres::quote_identifier;

constexpr SqlState kForeignKeyViolation{"23503"};

class DatabaseTables final : public TableRestore {
 public:
  DatabaseTables(const ObjectRestoreRun& run, const collection::proto::Manifest& manifest)
      : run_(run),
        spec_(run.spec),
        database_(spec_.tables(0).database()),
        database_oid_(database_oid(manifest, database_)) {
    if (const auto* scope = collection::find_scope(manifest, database_oid_)) scope_ = *scope;
    for (const auto& object : manifest.objects()) {
      if (object.database_oid() == database_oid_ && is_likely(object)) {
        likely_relations_.insert(object.oid());
      }
    }
  }

  void check_live() override {
    Connection live = run_.open_live("");
    const std::string& first = spec_.tables(0).name();
    if (live.query("SELECT FROM pg_catalog.pg_database WHERE datname = $1", {spec_.into_db()},
                   run_.stop())
            .rows() == 0) {
      throw Error(sqlstate::kInvalidCatalogName,
                  fmt::format("a database named \"{}\" needs to exist to restore table \"{}\"",
                              spec_.into_db(), first.empty() ? "*" : first));
    }
    Connection target = run_.open_live(spec_.into_db());
    for (const auto& pattern : spec_.tables()) {
      if (!pattern.schema().empty() && !pattern.name().empty()) {
        check_name(target, pattern.schema(), pattern.name());
      }
    }
  }

  std::int64_t build(Workshop& workshop) override {
    // Which files the tables have is known at the moment only. Most often it is those that they had
    // in the backup, and one recovery is enough.
    const postgres::WalScope likely =
        workshop.catalogs_of(database_oid_, likely_relations_, run_.stop());
    start_catalogs(workshop, likely);
    run_.steps.finished("recovered the catalogs and likely files in a workshop");
    std::optional<RowFilter> filter;
    if (!spec_.where().empty()) filter.emplace(run_, workshop, database_);
    Connection source = workshop.open(database_, run_.stop());
    TableSet tables = resolve_tables(run_, source, scope_ ? &*scope_ : nullptr);
    require_harmless(run_, source, tables.oids);
    const auto needed = files_of(run_, source, tables);
    require_known(source, fmt::format("pg_catalog.pg_relation_filenode(c.oid) = ANY "
                                      "('{{{}}}'::pg_catalog.oid[])",
                                      fmt::join(needed.files, ",")));
    if (filter) filter->define(source, tables);
    Connection target = run_.open_live(spec_.into_db());
    check_targets(target, tables);
    run_.job.pause_point("restore.objects_after_catalogs");

    if (!recovered(likely.databases.at(database_oid_), needed)) {
      workshop.start({.databases = {{database_oid_, needed}}}, database_, run_.stop());
      run_.steps.finished("recovered the tables in a workshop");
      source = workshop.open(database_, run_.stop());
      if (filter) filter->define(source, tables);
    }
    run_.job.pause_point("restore.objects_after_recovery");
    prepare_tables(run_, source, target, tables);
    const DeferredChecks checks(run_, source);
    const IndexMarks marks(run_, source, tables.staging_schemas());
    make_builder(run_, target);
    for (const auto& [schema, staging] : tables.staging) {
      create_staging_schema(run_, target, staging, schema_in_target(spec_, schema));
    }
    const DumpRequest dump{
        .source = workshop.connect(database_),
        .file = fmt::format("{}/{}/definitions.dump", run_.services.workshops, run_.job.id()),
        .schemas = tables.staging_schemas()};
    dump_definitions(run_, dump, source, target);
    if (filter) filter->allow(source, tables);
    restore_definitions(run_, dump, spec_.into_db(), DumpSection::PreData);
    run_.steps.finished("made the definitions");
    run_.job.pause_point("restore.objects_after_definitions");
    require_trusted_code(run_, target, target, dump.schemas);
    std::int64_t rows = 0;
    std::vector<TableRows> copied;
    if (!spec_.schema_only() || spec_.verify_data()) {
      copied = list_table_rows(run_, source, dump.schemas);
    }
    give_to_builder(run_, target, dump.schemas);
    const EarlyIndexes indexes(run_, source, dump, spec_.into_db(),
                               spec_.schema_only() ? std::vector<TableRows>() : copied);
    if (!copied.empty()) {
      CopyRequest request{.source = workshop.connect(database_),
                          .target = run_.live(spec_.into_db()),
                          .tables = copied,
                          .indexes = spec_.schema_only() ? nullptr : &indexes};
      if (filter) request = filter->apply(std::move(request));
      rows = copy_tables(run_, request);
    }
    if (!spec_.schema_only()) copy_sequences(run_, source, target, dump.schemas);
    run_.steps.finished("copied the rows and built the indexes of large tables");
    run_.job.pause_point("restore.objects_after_copy");
    report("building indexes");
    indexes.restore_rest();
    checks.settle(target, dump.schemas);
    marks.settle(target);
    validate_foreign_keys(target, tables);
    run_.steps.finished("built what else comes after the rows");
    std::vector<std::string> analyzed;
    if (!spec_.schema_only()) {
      refresh_views(run_, target, list_filled_views(run_, source, dump.schemas));
      for (const auto& table : copied) analyzed.push_back(table.name);
    }
    // What is left to do in the workshop is done beside it, and waits for the disk.
    run_workers(2, run_.stop(), [&](std::size_t number, const Stop& stop) {
      if (number == 0) {
        gather_statistics(run_, run_.live(spec_.into_db()), analyzed, stop);
      } else {
        plan_handover(source, target, dump);
        workshop.end();
      }
    });
    run_.steps.finished("gathered statistics, planned the handover and ended the workshop");
    return rows;
  }

  /// All that it needs is in the live server and the checkpoint: an earlier process may have built
  /// it.
  void finish() override {
    Connection target = run_.open_live(spec_.into_db());
    target.simple_query("BEGIN", run_.stop());
    finish_in(target);
    target.simple_query("COMMIT", run_.stop());
    tell();
  }

  void finish_in(Connection& target) override {
    require_all_built(run_, target);
    for (const auto& schema : run_.checkpoint.schemas()) {
      // Whoever gave privileges on must be able to name the table. Nobody sees this: the schema
      // goes away in this transaction.
      target.simple_query("GRANT USAGE ON SCHEMA " + quote_identifier(schema.name()) + " TO PUBLIC",
                          run_.stop());
    }
    for (const auto& statement : run_.checkpoint.handover()) {
      target.simple_query(statement, run_.stop());
    }
    for (const auto& schema : run_.checkpoint.schemas()) {
      move_out_of_staging(run_, target, schema, notices_);
    }
    drop_builder(run_, target);
  }

  void tell() override {
    for (const auto& notice : notices_) run_.job.notice(notice);
  }

  void remove_hidden() override {
    std::optional<Connection> target = open_target();
    if (!target) target = run_.open_live("");
    end_sessions(run_, *target);
    for (const auto& schema : run_.checkpoint.schemas()) {
      if (!is_own_schema(run_, *target, schema)) continue;
      target->simple_query(fmt::format("DROP SCHEMA {} CASCADE", quote_identifier(schema.name())),
                           run_.stop());
    }
    drop_builder(run_, *target);
  }

  Built built() override {
    std::optional<Connection> target = open_target();
    if (!target) return Built::Gone;
    const auto& schemas = run_.checkpoint.schemas();
    if (std::ranges::any_of(
            schemas, [&](const auto& schema) { return is_own_schema(run_, *target, schema); })) {
      return Built::Hidden;
    }
    // The transaction drops the schemas; if somebody else did, the tables went with them.
    return count_built_relations(run_, *target, "") != 0 ? Built::Final : Built::Gone;
  }

 private:
  /// Named, going by what the backup lists; or a sequence, which one of the tables may own.
  bool is_likely(const collection::proto::CatalogObject& object) const {
    if (object.type() != "table") return object.type() == "sequence";
    return std::ranges::any_of(spec_.tables(), [&](const auto& one) {
      return (one.schema().empty() || one.schema() == object.schema()) &&
             (one.name().empty() || one.name() == object.name());
    });
  }

  void report(std::string phase) const {
    run_.job.report({.bytes_done = 0, .bytes_total = 0, .phase = std::move(phase)});
  }

  void start_catalogs(Workshop& workshop, const postgres::WalScope& scope) const {
    try {
      workshop.start(scope, database_, run_.stop());
      Connection catalogs = workshop.open(database_, run_.stop());
      require_known(catalogs, "false");
    } catch (const Error& error) {
      // Of some catalogs it shows before anything can be asked.
      if (scope_ && lacks_file_of_catalog(error, *scope_, run_.between)) {
        throw unknown_file(fmt::format("a catalog of database \"{}\"", database_), run_.between);
      }
      throw;
    }
  }

  /// Whether the first recovery has had the files that are needed. Shared catalogs, and statistics
  /// that a backup of tables leaves out, are never among those that a history lists.
  bool recovered(const postgres::WalScope::Relations& had,
                 const postgres::WalScope::Relations& needed) const {
    std::set<std::uint32_t> listed;
    if (scope_) listed.insert(scope_->files().begin(), scope_->files().end());
    return std::ranges::all_of(needed.files, [&](std::uint32_t file) {
      return had.wants(file) || (!had.all && !listed.contains(file));
    });
  }

  void require_known(Connection& catalogs, const std::string& wanted) const {
    if (scope_) require_known_files(catalogs, *scope_, wanted, run_.between, run_.stop());
  }

  void validate_foreign_keys(Connection& target, const TableSet& tables) const {
    for (const auto& validation : tables.validations) {
      try {
        target.simple_query(validation.statement, run_.stop());
      } catch (const Error& error) {
        if (!validation.own_rows || error.state() != kForeignKeyViolation) throw;
        throw Error(error.state(), fmt::format("cannot restore table \"{}\" with this filter: {}",
                                               spec_.tables(0).name(), error.message()))
            .detail(error.detail())
            .hint("Let the filter keep the rows that others refer to, too.");
      }
    }
  }

  /// Absent when the database was dropped meanwhile: then nothing of ours is there either.
  std::optional<Connection> open_target() const {
    try {
      return run_.open_live(spec_.into_db());
    } catch (const Error& error) {
      if (error.state() != sqlstate::kInvalidCatalogName) throw;
      return std::nullopt;
    }
  }

  /// What the last transaction does is written down: the workshop is gone then.
  void plan_handover(Connection& source, Connection& target, const DumpRequest& dump) const {
    const auto objects = list_owned_objects(source, dump.schemas, run_.stop());
    std::map<std::string, std::string> owners;
    for (const auto& object : objects) {
      owners[object.identity] = spec_.grants() ? object.owner : spec_.user();
    }
    require_own_code(run_, source, target, dump.schemas, owners);
    for (auto& statement : ownership_statements(run_, target, objects)) {
      run_.checkpoint.add_handover(std::move(statement));
    }
    if (spec_.grants()) {
      if (auto text = privilege_statements(run_, dump); !text.empty()) {
        run_.checkpoint.add_handover(std::move(text));
      }
    }
    for (const auto& schema : run_.checkpoint.schemas()) {
      const auto relations = target.query(
          "SELECT oid FROM pg_catalog.pg_class WHERE relnamespace = $1::pg_catalog.oid "
          "AND relkind IN ('r', 'p', 'f', 'S', 'v', 'm')",
          {std::to_string(schema.oid())}, run_.stop());
      for (std::size_t row = 0; row < relations.rows(); ++row) {
        run_.checkpoint.add_relations(static_cast<std::uint32_t>(relations.integer(row, 0)));
      }
    }
    run_.save_checkpoint();
  }

  void check_name(Connection& target, const std::string& schema, const std::string& name) const {
    if (target
            .query("SELECT pg_catalog.to_regclass($1) IS NOT NULL",
                   {qualified(schema_in_target(spec_, schema), name_in_target(spec_, name))},
                   run_.stop())
            .boolean(0, 0)) {
      throw Error(sqlstate::kDuplicateRelation,
                  fmt::format("relation \"{}\" already exists", name_in_target(spec_, name)))
          .detail(fmt::format("It is in schema \"{}\" of database \"{}\".",
                              schema_in_target(spec_, schema), spec_.into_db()))
          .hint(
              "Restore into another database (into_db) or schema (into_schema), or under another "
              "name (new_table_name).");
    }
  }

  /// Names are free, and the user may make something there.
  void check_targets(Connection& target, const TableSet& tables) const {
    for (const auto& object : tables.objects) {
      check_name(target, object.schema, object.name);
      if (spec_.administrator()) continue;
      const auto may = target.query(
          "SELECT CASE WHEN n.oid IS NULL "
          "  THEN pg_catalog.has_database_privilege($1, pg_catalog.current_database(), 'CREATE') "
          "  ELSE pg_catalog.has_schema_privilege($1, n.oid, 'CREATE') END "
          "FROM (SELECT $2::text AS name) w "
          "LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = w.name",
          {spec_.user(), schema_in_target(spec_, object.schema)}, run_.stop());
      if (!may.boolean(0, 0)) {
        throw Error(
            sqlstate::kInsufficientPrivilege,
            fmt::format("permission denied for schema {}", schema_in_target(spec_, object.schema)));
      }
    }
  }

  const ObjectRestoreRun& run_;
  const proto::ObjectRestoreSpec& spec_;
  std::string database_;
  std::uint32_t database_oid_;
  std::optional<collection::proto::ScopeDatabase> scope_;  // absent: a backup of the cluster
  std::set<std::uint32_t> likely_relations_;
  std::vector<std::string> notices_;
};

}  // namespace

std::unique_ptr<TableRestore> make_restore_of_database_tables(
    const ObjectRestoreRun& run, const collection::proto::Manifest& manifest) {
  return std::make_unique<DatabaseTables>(run, manifest);
}

}  // namespace holdfast::restore
