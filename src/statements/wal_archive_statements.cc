#include "statements/wal_archive_statements.h"

#include <fmt/format.h>

#include <memory>
#include <string>

#include "base/error.h"
#include "collection/encryption.h"
#include "sql/columns.h"
#include "sql/printer.h"
#include "statements/encryption.h"
#include "statements/option_checks.h"
#include "statements/privileges.h"
#include "statements/storage_options.h"

namespace holdfast::statements {

namespace {

using backup::WalArchiveMode;
using backup::WalArchives;

std::string_view name_of_mode(WalArchiveMode mode) {
  return mode == WalArchiveMode::Full ? "full" : "maps";
}

WalArchiveMode mode_option(const sql::Options& options) {
  const std::string mode = options.text("mode").value_or("full");
  if (mode == "full") return WalArchiveMode::Full;
  if (mode == "maps") return WalArchiveMode::Maps;
  throw Error(sqlstate::kInvalidParameterValue,
              fmt::format("invalid value for option \"mode\": \"{}\"", mode))
      .hint("Valid values are 'full' and 'maps'.");
}

/// Refuses to mix encrypted and plain WAL.
std::optional<collection::CollectionKeys::Wal> choose_key(const sql::CreateWalArchive& statement,
                                                          storage::ObjectStore& store,
                                                          Stores& stores,
                                                          sql::SessionContext& session,
                                                          const Stop& stop) {
  const std::uint64_t server = system_identifier(session);
  const auto guard = key_guard(statement.options, stores, session);
  if (guard) return collection::open_wal(store, server, *guard, collection::WalKey::Make, stop);
  collection::require_plain_wal(store, server, stop);
  return std::nullopt;
}

class Create final : public Handler<sql::CreateWalArchive> {
 public:
  Create(Stores& stores, WalArchives& archives) : stores_(stores), archives_(archives) {}

  void run(const sql::CreateWalArchive& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override {
    require_cluster_privilege(session, ClusterPrivilege::Backup);
    const WalArchiveMode mode = mode_option(statement.options);
    refuse_unsupported_options(statement.options, "CREATE WAL ARCHIVE");
    // Refused now rather than by the job.
    refuse_userfile(stores_, statement.uri.value, "CREATE WAL ARCHIVE",
                    "What is written there is WAL again, which would have to be archived, too.");
    const LockOption lock = lock_option(statement.options, session);
    const auto store = open_for_user(stores_, statement.uri.value, session, lock.access());
    const auto key = choose_key(statement, *store, stores_, session, stop);
    if (!lock.mode.empty() && archives_.find(statement.uri.value) &&
        !archives_.retains(statement.uri.value, lock.mode, lock.retain_for_seconds)) {
      sink.notice({.message = "the WAL archive goes on as it is, without this object_lock",
                   .hint = "End it with DROP WAL ARCHIVE, then make it anew."});
    }
    const std::string text = sql::print(statement, sql::Redact::Secrets);
    const auto id = archives_.ensure({.collection_uri = statement.uri.value,
                                      .mode = mode,
                                      .description = text,
                                      .statement = text,
                                      .user_name = current_user(session),
                                      .key = key,
                                      .object_lock = lock.mode,
                                      .retain_for_seconds = lock.retain_for_seconds},
                                     stop);
    sink.columns(sql::columns_of(statement));
    sink.row(sql::Row{fmt::format("{}", id), backup::archive_slot_name(statement.uri.value)});
    sink.complete("CREATE WAL ARCHIVE");
  }

 private:
  Stores& stores_;
  WalArchives& archives_;
};

class Drop final : public Handler<sql::DropWalArchive> {
 public:
  explicit Drop(WalArchives& archives) : archives_(archives) {}

  void run(const sql::DropWalArchive& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override {
    require_cluster_privilege(session, ClusterPrivilege::Backup);
    if (!archives_.drop(statement.uri.value, stop)) {
      throw Error(sqlstate::kUndefinedObject, fmt::format("WAL archive in '{}' does not exist",
                                                          sql::redact_uri(statement.uri.value)))
          .hint("SHOW WAL ARCHIVES lists those that there are.");
    }
    sink.complete("DROP WAL ARCHIVE");
  }

 private:
  WalArchives& archives_;
};

sql::Row row_of(const WalArchives::Listed& archive) {
  const auto time = [](const std::optional<Time>& moment) -> sql::Value {
    return moment ? sql::Value(format_timestamptz(*moment)) : std::nullopt;
  };
  sql::Row row = {sql::redact_uri(archive.collection_uri), std::string(name_of_mode(archive.mode)),
                  fmt::format("{}", archive.job.id), std::string(jobs::name_of(archive.job.status)),
                  archive.slot};
  std::string message = archive.job.error ? archive.job.error->message() : std::string();
  if (const auto& state = archive.state) {
    row.insert(row.end(), {fmt::format("{}", state->timeline), to_string(state->archived),
                           time(state->archived_time), fmt::format("{}", state->lag_bytes),
                           fmt::format("{}", state->protected_bytes)});
    if (!state->waiting_for.empty()) message = "waiting: " + state->waiting_for;
  } else {
    row.insert(row.end(), 5, std::nullopt);
  }
  row.push_back(time(archive.protected_since));
  row.push_back(message.empty() ? sql::Value() : sql::Value(message));
  return row;
}

class Show final : public Handler<sql::ShowWalArchives> {
 public:
  explicit Show(WalArchives& archives) : archives_(archives) {}

  void run(const sql::ShowWalArchives& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop&) override {
    require_cluster_privilege(session, ClusterPrivilege::Backup);
    sink.columns(sql::columns_of(statement));
    const auto archives = archives_.list();
    for (const auto& archive : archives) sink.row(row_of(archive));
    sink.complete(fmt::format("SHOW {}", archives.size()));
  }

 private:
  WalArchives& archives_;
};

}  // namespace

void add_wal_archive_statements(Dispatcher& dispatcher, Stores& stores,
                                backup::WalArchives& archives) {
  dispatcher.add<sql::CreateWalArchive>(std::make_unique<Create>(stores, archives));
  dispatcher.add<sql::DropWalArchive>(std::make_unique<Drop>(archives));
  dispatcher.add<sql::ShowWalArchives>(std::make_unique<Show>(archives));
}

}  // namespace holdfast::statements
