#include "statements/show_backup_statement.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/free_memory.h"
#include "collection/chain.h"
#include "collection/encryption.h"
#include "collection/moment.h"
#include "sql/columns.h"
#include "statements/as_of.h"
#include "statements/collection_place.h"
#include "statements/encryption.h"
#include "statements/find_backup.h"
#include "statements/option_checks.h"
#include "statements/privileges.h"
#include "statements/storage_options.h"

namespace holdfast::statements {

namespace {

using collection::proto::Manifest;
using sql::Row;
using sql::Value;

/// CockroachDB lists at most this many problems.
constexpr std::size_t kMostProblemsListed = 10;
/// As many manifests are in memory as are read at the same time.
constexpr std::size_t kLayersAtOnce = 8;

std::string list_of(const std::vector<collection::FileProblem>& problems) {
  std::string text;
  for (std::size_t i = 0; i < std::min(problems.size(), kMostProblemsListed); ++i) {
    text += fmt::format("\n\t{}: {}", problems[i].key, problems[i].problem);
  }
  if (problems.size() > kMostProblemsListed) {
    text += fmt::format("\n\tand {} more", problems.size() - kMostProblemsListed);
  }
  return text;
}

void require_whole(storage::ObjectStore& store, const std::vector<Manifest>& chain,
                   const std::string& subdirectory, const Stop& stop) {
  std::vector<collection::FileProblem> problems = collection::check_files(store, chain, stop);
  if (problems.empty()) return;
  throw Error(sqlstate::kDataCorrupted,
              fmt::format("the following files of backup {} in {} are missing or damaged:{}",
                          subdirectory, store.description(), list_of(problems)))
      .hint(
          "This backup cannot be restored whole. Take a new one with BACKUP INTO, and find out "
          "what changed the storage.");
}

std::string backup_type(const Manifest& manifest) {
  return manifest.type() == collection::proto::BACKUP_TYPE_INCREMENTAL ? "incremental" : "full";
}

/// CockroachDB's object types know no difference between tables, views and sequences.
std::string object_type(const std::string& type) {
  static constexpr std::array<std::string_view, 4> kOwn = {"database", "schema", "type",
                                                           "function"};
  return std::ranges::find(kOwn, type) != kOwn.end() ? type : "table";
}

Value name_or_null(const std::string& name) { return name.empty() ? Value() : Value(name); }

/// The values of one layer's columns, in the order that sql::columns_of() has them for the options.
class ObjectRows {
 public:
  using Definitions = std::map<std::uint32_t, restore::Definitions>;

  /// `definitions`: by database; empty where they are not asked for.
  ObjectRows(const sql::ShowBackup& statement, const Manifest& manifest, Definitions definitions)
      : manifest_(manifest), definitions_(std::move(definitions)) {
    for (const sql::Column& column : sql::columns_of(statement)) names_.push_back(column.name);
    skip_size_ = statement.options.flag("skip size");
    // What a table takes on storage is estimated from what its layer's files shrank to on average.
    if (manifest.plain_bytes() > 0) {
      shrink_ = static_cast<double>(manifest.stored_bytes()) /
                static_cast<double>(manifest.plain_bytes());
    }
  }

  Row row(const collection::proto::CatalogObject& object) const {
    Row row;
    for (const std::string& name : names_) row.push_back(value(object, name));
    return row;
  }

 private:
  Value value(const collection::proto::CatalogObject& object, const std::string& column) const {
    bool table = object_type(object.type()) == "table";
    if (column == "database_name") return name_or_null(object.database());
    if (column == "parent_schema_name") return name_or_null(object.schema());
    if (column == "object_name") return object.name();
    if (column == "object_type") return object_type(object.type());
    if (column == "backup_type") return backup_type(manifest_);
    // An incremental holds what changed after the end of the layer before, up to its own end.
    if (column == "start_time") {
      return manifest_.has_base()
                 ? Value(format_timestamptz(time_from_us(manifest_.base().end_time_us())))
                 : Value();
    }
    if (column == "end_time") return format_timestamptz(time_from_us(manifest_.end_time_us()));
    if (column == "size_bytes")
      return table ? Value(std::to_string(skip_size_ ? 0 : object.size_bytes())) : Value();
    if (column == "rows") {
      return table
                 ? Value(std::to_string(skip_size_ ? 0 : std::max<std::int64_t>(object.rows(), 0)))
                 : Value();
    }
    if (column == "is_full_cluster")
      return manifest_.scope() == collection::proto::SCOPE_CLUSTER ? "t" : "f";
    if (column == "create_statement") return definition(object);
    if (column == "owner") return object.owner();
    if (column == "privileges") {
      std::string grants;
      for (const std::string& grant : object.grants())
        grants += (grants.empty() ? "" : "\n") + grant;
      return grants;
    }
    if (column == "file_bytes") {
      if (!table) return Value();
      return std::to_string(std::llround(static_cast<double>(object.size_bytes()) * shrink_));
    }
    if (column == "database_id") return id_or_null(object.database_oid());
    if (column == "parent_schema_id") return id_or_null(object.schema_oid());
    if (column == "object_id") return id_or_null(object.oid());
    // Regions, which PostgreSQL does not have.
    return Value();
  }

  Value definition(const collection::proto::CatalogObject& object) const {
    const bool database = object.type() == "database";
    const auto of_database = definitions_.find(database ? object.oid() : object.database_oid());
    if (of_database == definitions_.end()) return Value();
    const auto found = of_database->second.find(restore::row_of(object));
    return found == of_database->second.end() ? Value() : Value(found->second);
  }

  static Value id_or_null(std::uint32_t oid) {
    return oid == 0 ? Value() : Value(std::to_string(oid));
  }

  const Manifest& manifest_;
  const Definitions definitions_;
  std::vector<std::string> names_;
  bool skip_size_ = false;
  double shrink_ = 1;
};

std::size_t show_objects(const sql::ShowBackup& statement, const Manifest& manifest,
                         ObjectRows::Definitions definitions, sql::RowSink& sink) {
  ObjectRows rows(statement, manifest, std::move(definitions));
  for (const auto& object : manifest.objects()) sink.row(rows.row(object));
  return static_cast<std::size_t>(manifest.objects_size());
}

/// bytea in PostgreSQL's hex output format.
std::string bytea(std::string_view text) { return "\\x" + to_hex(as_bytes(text)); }

/// One row for each pack; its keys are the first and the last file that it has frames of.
std::size_t show_files(const sql::ShowBackup& statement, const Manifest& manifest,
                       sql::RowSink& sink) {
  bool checked = statement.options.flag("check_files");
  auto path_of = [&](std::uint32_t file_id) {
    auto file =
        std::ranges::lower_bound(manifest.files(), file_id, {}, &collection::proto::File::id);
    return file != manifest.files().end() && file->id() == file_id ? file->path() : std::string();
  };
  for (const auto& pack : manifest.packs()) {
    std::string first = path_of(pack.first_file());
    std::string last = path_of(pack.last_file());
    sink.row(Row{collection::pack_key(manifest.subdirectory(), pack.number()),
                 backup_type(manifest), first, last, bytea(first), bytea(last),
                 std::to_string(pack.plain_bytes()), Value(),
                 name_or_null(manifest.instance().locality()),
                 std::to_string(checked ? static_cast<std::int64_t>(pack.size()) : -1)});
  }
  return static_cast<std::size_t>(manifest.packs_size());
}

std::size_t validate(storage::ObjectStore& store, const std::vector<Manifest>& chain,
                     const std::string& subdirectory, sql::RowSink& sink, const Stop& stop) {
  std::size_t workers = std::max(1U, std::thread::hardware_concurrency());
  std::vector<collection::FileProblem> problems =
      collection::verify_data(store, chain, workers, stop);
  sink.row(Row{problems.empty()
                   ? std::string("No problems found!")
                   : fmt::format("Problems were found in backup {}:{}\nERROR: validation failed",
                                 subdirectory, list_of(problems))});
  return 1;
}

/// One row for each stretch of time whose moments can all be restored.
std::size_t show_windows(storage::ObjectStore& store, const std::vector<Manifest>& layers,
                         sql::RowSink& sink, const Stop& stop) {
  const auto windows = collection::MomentFinder(store, layers, stop).windows();
  for (const auto& window : windows) {
    sink.row(Row{format_timestamptz(window.begin), format_timestamptz(window.end),
                 std::to_string(window.timeline), to_string(window.begin_lsn),
                 to_string(window.end_lsn)});
  }
  return windows.size();
}

void refuse_unsupported(const sql::ShowBackup& statement) {
  if (statement.what == sql::ShowBackup::What::Ranges) {
    refuse_missing("SHOW BACKUP RANGES",
                   "ranges, which PostgreSQL does not have; use SHOW BACKUP FILES");
  }
  refuse_unsupported_options(statement.options, "SHOW BACKUP");
}

/// Opens the chain with what encryption_passphrase or kms give; encryption_info_dir says that its
/// ENCRYPTION-INFO is elsewhere.
collection::CollectionKeys open_keys(const sql::ShowBackup& statement, Stores& stores,
                                     storage::ObjectStore& store, const std::string& full,
                                     sql::SessionContext& session, const Stop& stop) {
  const auto guard = key_guard(statement.options, stores, session);
  const auto info_directory = statement.options.text("encryption_info_dir");
  if (!info_directory) return collection::open_chain(store, full, guard.get(), stop);
  const auto directory = open_for_user(stores, *info_directory, session,
                                       {.versions_at = versions_option(statement.options)});
  // As in CockroachDB it has no meaning without a key.
  if (guard == nullptr) return collection::open_chain(store, full, nullptr, stop);
  return collection::open_chain_by(*directory, full, *guard, stop);
}

}  // namespace

void ShowBackupsStatement::run(const sql::ShowBackups& statement, sql::SessionContext& session,
                               sql::RowSink& sink, const Stop& stop) {
  refuse_unsupported_options(statement.options, "SHOW BACKUPS");
  auto store = open_for_user(stores_, single_uri(statement.in, "SHOW BACKUPS"), session,
                             {.versions_at = versions_option(statement.options)});
  std::vector<std::string> fulls = collection::list_fulls(*store, stop);
  const Time now = Clock::system().now();
  const auto drop_unless = [&](const std::optional<sql::Expression>& bound, const auto& fits) {
    if (!bound) return;
    const Time moment = as_of_time(*bound, now);
    std::erase_if(fulls, [&](const std::string& full) {
      const auto time = collection::parse_subdirectory(full);
      return !time || !fits(*time, moment);
    });
  };
  drop_unless(statement.newer_than, std::greater<>());
  drop_unless(statement.older_than, std::less<>());
  sink.columns(sql::columns_of(statement));
  for (const std::string& full : fulls) sink.row(Row{"/" + full});
  sink.complete(fmt::format("SHOW {}", fulls.size()));
}

std::size_t ShowBackupStatement::show_layer(const sql::ShowBackup& statement,
                                            storage::ObjectStore& store, const Manifest& layer,
                                            sql::RowSink& sink, const Stop& stop) {
  if (statement.options.flag("as_json")) {
    sink.row(Row{collection::manifest_to_json(layer)});
    return 1;
  }
  if (statement.what == sql::ShowBackup::What::Files) return show_files(statement, layer, sink);
  const bool schemas = statement.what == sql::ShowBackup::What::Schemas;
  return show_objects(statement, layer,
                      schemas ? restore::read_definitions(workshops_, store, layer, stop)
                              : ObjectRows::Definitions(),
                      sink);
}

void ShowBackupStatement::run(const sql::ShowBackup& statement, sql::SessionContext& session,
                              sql::RowSink& sink, const Stop& stop) {
  refuse_unsupported(statement);
  if (statement.what == sql::ShowBackup::What::Schemas && !statement.options.flag("as_json")) {
    // The catalogs of a backup are code that a workshop runs.
    require_administrator(session, "see the definitions in backups");
  }
  CollectionPlace place = collection_place(statement.in, statement.options, "SHOW BACKUP", session);
  const storage::StoreAccess access{.versions_at = versions_option(statement.options)};
  auto store = std::move(open_collection(stores_, place, session, access).store);
  FoundBackup backup =
      find_backup(*store, statement.from, hidden_layers(place, session), sink, stop);
  auto keys = open_keys(statement, stores_, *store, backup.subdirectory, session, stop);
  store = collection::with_keys(std::move(store), std::move(keys));
  if (statement.options.flag("check_files")) {
    // Every layer is checked on its own branch: a chain may have been continued twice from one.
    const auto layers = collection::read_manifests(*store, backup.layers, stop);
    for (const auto& chain : collection::branches(backup.subdirectory, layers)) {
      require_whole(*store, chain, backup.subdirectory, stop);
    }
  }

  sink.columns(sql::columns_of(statement));
  std::size_t rows = 0;
  const bool as_json = statement.options.flag("as_json");
  if (statement.what == sql::ShowBackup::What::Windows && !as_json) {
    rows =
        show_windows(*store, collection::read_manifests(*store, backup.layers, stop), sink, stop);
  } else if (statement.what == sql::ShowBackup::What::Validate && !as_json) {
    const auto layers = collection::read_manifests(*store, backup.layers, stop);
    for (const auto& chain : collection::branches(backup.subdirectory, layers)) {
      rows += validate(*store, chain, backup.subdirectory, sink, stop);
    }
  } else {
    // Some at a time: there may be hundreds.
    for (std::size_t first = 0; first < backup.layers.size(); first += kLayersAtOnce) {
      const auto some = std::span(backup.layers).subspan(first);
      const std::vector<std::string> directories(
          some.begin(),
          some.begin() + static_cast<std::ptrdiff_t>(std::min(some.size(), kLayersAtOnce)));
      for (const Manifest& layer : collection::read_manifests(*store, directories, stop)) {
        rows += show_layer(statement, *store, layer, sink, stop);
      }
    }
  }
  give_back_free_memory();
  sink.complete(fmt::format("SHOW {}", rows));
}

}  // namespace holdfast::statements
