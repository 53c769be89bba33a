#include "statements/singlestore_statements.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/encryption.h"
#include "sql/columns.h"
#include "sql/lexer.h"
#include "sql/printer.h"
#include "statements/option_checks.h"
#include "storage/bucket_uri.h"
#include "storage/percent.h"

namespace holdfast::statements {

namespace {

using sql::SingleStoreBackup;
using sql::SingleStorePlace;
using sql::SingleStoreRestore;
using Mode = SingleStoreBackup::Mode;

sql::Text text_of(std::string value) { return {.value = std::move(value), .parameter = {}}; }

std::string path_uri(std::string path, const std::string& external_io_dir) {
  if (path.find("://") != std::string::npos) return path;
  if (path.starts_with('/')) {
    std::string root = external_io_dir;
    while (root.ends_with('/')) root.pop_back();
    if (root.empty() || !path.starts_with(root + '/')) {
      throw Error(sqlstate::kInvalidParameterValue,
                  fmt::format("path \"{}\" is outside of the external I/O directory", path))
          .hint(
              "Give a path relative to it (--external-io-dir), or a URI such as s3://bucket/path.");
    }
    path.erase(0, root.size() + 1);
  }
  while (path.starts_with("./")) path.erase(0, 2);
  return "nodelocal://self/" + storage::percent_encode_path(path);
}

std::string place_uri(const SingleStorePlace& place, const std::string& external_io_dir) {
  const auto text = [](const std::optional<sql::Text>& given) {
    return given ? given->value : std::string();
  };
  storage::Bucket bucket{.kind = storage::BucketKind::S3,
                         .path = place.location.value,
                         .config = text(place.config),
                         .credentials = text(place.credentials)};
  switch (place.kind) {
    case SingleStorePlace::Kind::S3:
      return storage::bucket_uri(bucket);
    case SingleStorePlace::Kind::Gcs:
      bucket.kind = storage::BucketKind::Gcs;
      return storage::bucket_uri(bucket);
    case SingleStorePlace::Kind::Azure:
      bucket.kind = storage::BucketKind::Azure;
      return storage::bucket_uri(bucket);
    case SingleStorePlace::Kind::Path:
      break;
  }
  if (place.config || place.credentials) {
    throw Error(sqlstate::kInvalidParameterValue,
                "CONFIG and CREDENTIALS are for S3, GCS and AZURE only");
  }
  return path_uri(place.location.value, external_io_dir);
}

/// The path's end counts, whatever parameters follow it.
bool names_collection(const std::string& uri) {
  const std::string_view path = std::string_view(uri).substr(0, uri.find('?'));
  return path.ends_with(".backup") || path.ends_with(".incr_backup");
}

std::string below(const std::string& uri, const std::string& name) {
  const std::size_t question = uri.find('?');
  std::string path = uri.substr(0, question);
  while (path.ends_with('/')) path.pop_back();
  path += '/' + name;
  return question == uri.npos ? path : path + uri.substr(question);
}

/// The newest full of a collection; absent when it has none.
std::optional<std::string> find_latest(storage::ObjectStore& store, const Stop& stop) {
  try {
    return collection::resolve_latest(store, stop);
  } catch (const Error& error) {
    if (error.state() != sqlstate::kUndefinedFile) throw;
    return std::nullopt;
  }
}

void note_resource_pool(const std::optional<std::string>& pool, sql::RowSink& sink) {
  if (!pool) return;
  sink.notice({.message = "resource pools do not exist in PostgreSQL: the option has no effect"});
}

/// Passes on what the statement below says, and keeps the job's id.
class JobIdSink final : public sql::RowSink {
 public:
  explicit JobIdSink(sql::RowSink& outer) : outer_(outer) {}

  void columns(std::span<const sql::Column>) override {}
  void row(std::span<const sql::Value> values) override { job_id_ = values[0].value_or(""); }
  void notice(const sql::Notice& notice) override { outer_.notice(notice); }
  void complete(std::string_view) override {}

  std::int64_t job_id() const {
    std::int64_t id = 0;
    std::from_chars(job_id_.data(), job_id_.data() + job_id_.size(), id);
    return id;
  }

 private:
  sql::RowSink& outer_;
  std::string job_id_;
};

class Backup final : public Handler<SingleStoreBackup> {
 public:
  explicit Backup(SingleStoreServices services) : services_(std::move(services)) {}

  void run(const SingleStoreBackup& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override {
    if (statement.mode == Mode::SplitPartitions) {
      refuse_missing("BACKUP WITH SPLIT PARTITIONS", "partitions, which PostgreSQL does not have");
    }
    note_resource_pool(statement.resource_pool, sink);
    const auto kind = statement.mode == Mode::Full ? BackupKind::Full : BackupKind::Incremental;
    const std::string uri = collection_uri(
        statement.place, collection_name(statement.database, kind), services_.external_io_dir);
    check_place(statement, uri, session, stop);
    JobIdSink job(sink);
    services_.backup.run_as(translate(statement, uri), sql::print(statement, sql::Redact::Secrets),
                            session, job, stop);
    const auto id = services_.history.find_by_job(job.job_id());
    sink.columns(sql::columns_of(statement));
    sink.row(sql::Row{id ? sql::Value(fmt::format("{}", *id)) : std::nullopt});
    sink.complete("BACKUP");
  }

 private:
  static sql::Backup translate(const SingleStoreBackup& statement, const std::string& uri) {
    sql::Backup backup;
    backup.targets.kind = sql::Targets::Kind::Databases;
    backup.targets.databases = {statement.database};
    backup.into = {text_of(uri)};
    if (statement.mode == Mode::Differential) backup.onto = sql::Subdirectory{};
    if (statement.mode == Mode::Full) {
      // No increment will follow, so nothing needs to be kept for one.
      backup.options.list.push_back({.name = sql::find_option("protect", sql::kBackup)->name,
                                     .enabled = false,
                                     .values = {}});
    }
    return backup;
  }

  void check_place(const SingleStoreBackup& statement, const std::string& uri,
                   sql::SessionContext& session, const Stop& stop) const {
    const auto store = open_for_user(services_.stores, uri, session);
    const bool holds_full = find_latest(*store, stop).has_value();
    if (statement.mode == Mode::Differential) {
      if (holds_full) return;
      throw Error(sqlstate::kUndefinedFile,
                  fmt::format("there is no backup WITH INIT of database \"{}\" in {}",
                              statement.database, store->description()))
          .hint("Begin the set with BACKUP DATABASE … WITH INIT TO the same place.");
    }
    if (!holds_full) return;
    throw Error(sqlstate::kDuplicateFile,
                fmt::format("{} already holds a full backup of database \"{}\"",
                            store->description(), statement.database))
        .hint(statement.mode == Mode::Init
                  ? "Go on with it WITH DIFFERENTIAL, or choose another place."
                  : "Choose another place, or empty this one.");
  }

  SingleStoreServices services_;
};

/// A layer of a set: by incr_backup_id, which is the id of the job that took it, or by its number.
const collection::proto::Manifest& find_file(const std::vector<collection::proto::Manifest>& layers,
                                             std::int64_t file) {
  for (const auto& layer : layers) {
    if (layer.job_id() == file) return layer;
  }
  if (file >= 1 && file <= static_cast<std::int64_t>(layers.size())) {
    return layers[static_cast<std::size_t>(file) - 1];
  }
  std::vector<std::string> there;
  for (const auto& layer : layers) {
    there.push_back(fmt::format("{} ({})", layer.job_id(),
                                format_timestamptz(time_from_us(layer.end_time_us()))));
  }
  throw Error(sqlstate::kUndefinedObject, fmt::format("backup file {} does not exist", file))
      .detail(fmt::format("The set has these: {}.", fmt::join(there, ", ")))
      .hint("Give incr_backup_id of information_schema.mv_backup_history, or 1 for the INIT.");
}

class Restore final : public Handler<SingleStoreRestore> {
 public:
  explicit Restore(SingleStoreServices services) : services_(std::move(services)) {}

  void run(const SingleStoreRestore& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override {
    refuse_async(statement);
    note_resource_pool(statement.resource_pool, sink);
    sql::Restore restore;
    restore.targets.kind = sql::Targets::Kind::Databases;
    restore.targets.databases = {statement.database};
    restore.in = {text_of(find_collection(statement, session, stop))};
    if (statement.file) {
      restore.as_of = end_of(*statement.file, restore.in.front().value, session, stop);
    }
    if (statement.new_name) {
      restore.options.list.push_back({.name = sql::find_option("new_db_name", sql::kRestore)->name,
                                      .enabled = true,
                                      .values = {text_of(*statement.new_name)}});
    }
    services_.restore.run_as(restore, sql::print(statement, sql::Redact::Secrets), session, sink,
                             stop);
  }

 private:
  static void refuse_async(const SingleStoreRestore& statement) {
    if (statement.sync_durability == false) {
      refuse_missing("RESTORE WITH ASYNC DURABILITY",
                     "another durability for one database; set synchronous_commit");
    }
    if (statement.sync_replication) {
      refuse_missing("RESTORE WITH SYNC or ASYNC REPLICATION",
                     "another replication for one database; set synchronous_standby_names");
    }
  }

  /// The first of the places in question that holds backups.
  std::string find_collection(const SingleStoreRestore& statement, sql::SessionContext& session,
                              const Stop& stop) const {
    const std::string place = place_uri(statement.place, services_.external_io_dir);
    std::vector<std::string> candidates;
    if (!names_collection(place)) {
      const auto full = below(place, collection_name(statement.database, BackupKind::Full));
      const auto set = below(place, collection_name(statement.database, BackupKind::Incremental));
      if (!statement.file) candidates.push_back(full);
      candidates.push_back(set);
    }
    // Any collection of ours may be named itself.
    candidates.push_back(place);
    for (const std::string& uri : candidates) {
      if (find_latest(*open_for_user(services_.stores, uri, session), stop)) return uri;
    }
    throw Error(sqlstate::kUndefinedFile,
                fmt::format("there is no backup of database \"{}\" in '{}'", statement.database,
                            sql::redact_uri(place)))
        .hint("Name the place that BACKUP DATABASE … TO was given.");
  }

  sql::Expression end_of(std::int64_t file, const std::string& uri, sql::SessionContext& session,
                         const Stop& stop) const {
    const auto store = open_for_user(services_.stores, uri, session);
    const std::string full = collection::resolve_latest(*store, stop);
    // SingleStore's grammar has no place for a key.
    collection::open_chain(*store, full, nullptr, stop);
    const auto layers =
        collection::read_manifests(*store, collection::list_layers(*store, full, stop), stop);
    const Time end{std::chrono::microseconds(find_file(layers, file).end_time_us())};
    const std::string text = format_timestamptz(end);
    return {.kind = sql::Expression::Kind::String,
            .source = sql::quote_literal(text),
            .value = text,
            .parameter = 0};
  }

  SingleStoreServices services_;
};

}  // namespace

std::string collection_name(const std::string& database, BackupKind kind) {
  // Encoded for the file system, where "/" would part it, and then for the URI.
  const std::string name =
      storage::percent_encode(database) + (kind == BackupKind::Full ? ".backup" : ".incr_backup");
  return storage::percent_encode(name);
}

std::string collection_uri(const SingleStorePlace& place, const std::string& name,
                           const std::string& external_io_dir) {
  const std::string uri = place_uri(place, external_io_dir);
  return names_collection(uri) ? uri : below(uri, name);
}

void add_singlestore_statements(Dispatcher& dispatcher, const SingleStoreServices& services) {
  dispatcher.add<SingleStoreBackup>(std::make_unique<Backup>(services));
  dispatcher.add<SingleStoreRestore>(std::make_unique<Restore>(services));
}

}  // namespace holdfast::statements
