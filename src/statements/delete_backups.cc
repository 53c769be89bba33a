#include "statements/delete_backups.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "collection/collection.h"
#include "collection/encryption.h"
#include "retention/retention_run.h"
#include "sql/columns.h"
#include "sql/printer.h"
#include "statements/collection_place.h"
#include "statements/encryption.h"
#include "statements/job_result.h"
#include "statements/older_than.h"
#include "statements/option_checks.h"
#include "statements/privileges.h"

namespace holdfast::statements {

namespace {

using retention::proto::RetentionRow;

retention::proto::RetentionJobSpec make_spec(const sql::DeleteBackups& statement,
                                             sql::SessionContext& session, Time now) {
  retention::proto::RetentionJobSpec spec;
  if (statement.older_than) {
    const Time moment = older_than_time(*statement.older_than, session, now);
    spec.set_older_than_us(moment.time_since_epoch().count());
  }
  if (statement.keep_fulls) {
    if (*statement.keep_fulls < 1 ||
        *statement.keep_fulls > std::numeric_limits<std::uint32_t>::max()) {
      throw Error(sqlstate::kInvalidParameterValue,
                  fmt::format("invalid number of fulls to keep: {}", *statement.keep_fulls))
          .hint("Give a number from 1 on.");
    }
    spec.set_keep_fulls(static_cast<std::uint32_t>(*statement.keep_fulls));
  }
  return spec;
}

/// Notes the keys of the encrypted chains that `guard` opens. The others cannot be read, and are
/// kept for that reason.
void add_keys(storage::ObjectStore& store, collection::KeyGuard& guard,
              retention::proto::RetentionJobSpec& spec, const Stop& stop) {
  std::set<std::uint64_t> servers;
  for (const std::string& full : collection::list_fulls(store, stop)) {
    if (!collection::is_encrypted(store, full, stop)) continue;
    try {
      collection::CollectionKeys keys = collection::open_chain(store, full, &guard, stop);
      // One server's WAL has one key, whose chain it is.
      if (keys.wal && !servers.insert(keys.wal->system_identifier).second) keys.wal.reset();
      spec.add_keys(collection::serialize_keys(keys));
    } catch (const Error& error) {
      if (error.state() != sqlstate::kInvalidParameterValue) throw;
      log::info("\"{}\" stays: {}", full, error.message());
    }
  }
}

sql::Value time_or_null(bool has, std::int64_t microseconds) {
  if (!has) return std::nullopt;
  return format_timestamptz(time_from_us(microseconds));
}

void answer(const sql::DeleteBackups& statement, const sql::Value& job_id,
            std::vector<RetentionRow> rows, sql::RowSink& sink) {
  std::ranges::sort(rows, {}, [](const RetentionRow& row) { return row.subdirectory(); });
  std::size_t deleted = 0;
  sink.columns(sql::columns_of(statement));
  for (const RetentionRow& row : rows) {
    sink.row(sql::Row{job_id, row.subdirectory(),
                      time_or_null(row.has_start_time_us(), row.start_time_us()),
                      time_or_null(row.has_end_time_us(), row.end_time_us()),
                      row.has_layers() ? sql::Value(fmt::format("{}", row.layers())) : sql::Value(),
                      fmt::format("{}", row.bytes()), row.action(), row.reason()});
    if (row.has_layers() && row.action() == retention::kDeleted) ++deleted;
  }
  sink.complete(fmt::format("DELETE {}", deleted));
}

}  // namespace

void DeleteBackupsStatement::run(const sql::DeleteBackups& statement, sql::SessionContext& session,
                                 sql::RowSink& sink, const Stop& stop) {
  const Detached detached = statement.options.flag("detached") ? Detached::Yes : Detached::No;
  require_cluster_privilege(session, ClusterPrivilege::Backup);
  auto spec = make_spec(statement, session, registry_.clock().now());
  CollectionPlace place =
      collection_place(statement.in, statement.options, "DELETE BACKUPS", session);
  auto store = std::move(open_collection(stores_, place, session).store);
  spec.set_collection_uri(place.uri);
  spec.set_incremental_uri(place.incremental_uri);
  if (const auto guard = key_guard(statement.options, stores_, session)) {
    add_keys(*store, *guard, spec, stop);
    store = retention::with_all_keys(std::move(store), spec);
  }
  if (statement.options.flag("dry_run")) {
    if (detached == Detached::Yes) {
      throw Error(sqlstate::kInvalidParameterValue, "dry_run cannot be detached")
          .hint("A dry run creates no job.");
    }
    return answer(statement, std::nullopt, retention::dry_run(environment_, *store, spec, stop),
                  sink);
  }
  require_detached_in_transaction("DELETE BACKUPS", detached, session);
  const std::string text = sql::print(statement, sql::Redact::Secrets);
  const jobs::NewJob job = new_job(
      {.type = jobs::kDeleteBackupsType, .description = text, .statement = text}, spec, session);
  if (detached == Detached::Yes) {
    // libpq reads a number behind DELETE.
    return submit_and_answer(runner_, job, detached, "DELETE 0", session, sink, stop);
  }
  if (session.dry_run()) return;
  const jobs::JobId id = runner_.submit(job);
  runner_.wait(id, stop);
  retention::proto::RetentionCheckpoint done;
  if (const auto bytes = registry_.checkpoint(id)) {
    done.ParseFromArray(bytes->data(), static_cast<int>(bytes->size()));
  }
  answer(statement, fmt::format("{}", id), {done.rows().begin(), done.rows().end()}, sink);
}

}  // namespace holdfast::statements
