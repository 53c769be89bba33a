#include "statements/history_statements.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "sql/columns.h"
#include "sql/parser.h"
#include "statements/job_rights.h"
#include "statements/milestone_statements.h"
#include "statements/privileges.h"

namespace holdfast::statements {

namespace {

using sql::InformationSchemaView;
using sql::Row;
using sql::Value;

constexpr std::int64_t kMegabyte = 1024 * 1024;

std::optional<sql::Statement> parsed(const std::string& text) {
  try {
    return sql::parse(text);
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::optional<std::string> names_in(const sql::Targets& targets) {
  if (targets.kind == sql::Targets::Kind::Databases) {
    return fmt::format("{}", fmt::join(targets.databases, ", "));
  }
  return std::nullopt;
}

std::string path_of(const std::string& uri, const sql::Subdirectory& subdirectory) {
  if (subdirectory.latest) return uri;
  const std::size_t query = uri.find('?');
  std::string path = uri.substr(0, query);
  while (path.ends_with('/')) path.pop_back();
  if (!subdirectory.path.value.starts_with('/')) path += '/';
  path += subdirectory.path.value;
  return query == uri.npos ? path : path + uri.substr(query);
}

Value number(const std::optional<std::int64_t>& value) {
  if (!value) return std::nullopt;
  return fmt::format("{}", *value);
}

Row history_row(const state::HistoryEntry& entry) {
  const BackupPlace place = place_of(entry.description, entry.statement);
  const bool backup = entry.type == jobs::kBackupType;
  std::string_view type = place.type;
  if (entry.type == jobs::kRestoreType) type = "RESTORE";
  if (entry.type == jobs::kVerifyType) type = "VERIFY";
  // The manifest has the job's id too: RESTORE … WITH FILE finds the layer by it.
  const bool in_set = backup && place.type != "FULL";
  return {fmt::format("{}", entry.id),
          std::nullopt,  // cluster_name: PostgreSQL's clusters have none
          std::nullopt,
          place.databases,
          format_timestamptz(entry.started),
          format_timestamptz(entry.finished),
          std::nullopt,  // num_partitions
          place.path,
          std::nullopt,  // checksum: each frame has its own
          entry.succeeded() ? "Success" : "Failure",
          fmt::format("{}", (entry.result_bytes + kMegabyte - 1) / kMegabyte),
          in_set ? number(entry.job_id) : Value(),
          std::string(type),
          place.tags,
          entry.server_version,
          std::nullopt,  // memory_usage
          backup ? Value("Lockfree") : Value(),
          std::nullopt,  // lockfree_timestamp
          entry.succeeded() ? Value() : entry.error_state,
          entry.succeeded() ? Value() : entry.error_message,
          number(entry.job_id),
          number(entry.schedule_id),
          entry.user_name,
          fmt::format("{}", entry.result_bytes),
          fmt::format("{}", entry.result_rows)};
}

/// As far as it has come since it was created, the rest takes as long in proportion.
Value seconds_left(const jobs::Job& job, Time now) {
  if (job.status != jobs::JobStatus::Running || job.fraction_completed <= 0) return std::nullopt;
  const double passed = std::chrono::duration<double>(now - job.created).count();
  return fmt::format("{:.0f}", passed * (1 - job.fraction_completed) / job.fraction_completed);
}

Row status_row(const jobs::Job& job, Time now) {
  const BackupPlace place = place_of(job.description, job.statement);
  return {number(job.coordinator_id),
          place.databases,
          place.path,
          fmt::format("{}", job.fraction_completed * 100),
          std::nullopt,  // columnstore_progress: PostgreSQL has rows only
          job.running_status.empty() ? std::string(name_of(job.status)) : job.running_status,
          seconds_left(job, now),
          fmt::format("{}", job.id)};
}

class ViewStatement final : public Handler<InformationSchemaView> {
 public:
  explicit ViewStatement(const HistoryServices& services)
      : history_(services.history),
        registry_(services.registry),
        milestones_(services.milestones) {}

  void run(const InformationSchemaView& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override {
    sink.columns(sql::columns_of(statement));
    sink.complete(fmt::format("SELECT {}", rows(statement.view, session, sink, stop)));
  }

 private:
  std::size_t rows(InformationSchemaView::View view, sql::SessionContext& session,
                   sql::RowSink& sink, const Stop& stop) const {
    switch (view) {
      case InformationSchemaView::View::BackupHistory:
        return history(session, sink);
      case InformationSchemaView::View::BackupStatus:
        return status(session, sink);
      case InformationSchemaView::View::Milestones:
        break;
    }
    return list_milestones(milestones_, session, sink, stop);
  }

  std::size_t history(sql::SessionContext& session, sql::RowSink& sink) const {
    const JobRights rights = JobRights::of(session);
    const auto entries =
        history_.list(rights.all ? std::nullopt : std::optional<std::string>(rights.user));
    for (const state::HistoryEntry& entry : entries) sink.row(history_row(entry));
    return entries.size();
  }

  std::size_t status(sql::SessionContext& session, sql::RowSink& sink) const {
    using jobs::JobStatus;
    jobs::JobFilter filter{
        .type = std::string(jobs::kBackupType),
        .statuses = {{JobStatus::Pending, JobStatus::Running, JobStatus::PauseRequested,
                      JobStatus::Paused, JobStatus::CancelRequested, JobStatus::Reverting}}};
    JobRights::of(session).restrict_to_own(filter);
    const auto list = registry_.list(filter);
    for (const jobs::Job& job : list) sink.row(status_row(job, registry_.clock().now()));
    return list.size();
  }

  state::History& history_;
  jobs::Registry& registry_;
  const backup::Milestones& milestones_;
};

class ClearStatement final : public Handler<sql::ClearBackupHistory> {
 public:
  explicit ClearStatement(state::History& history) : history_(history) {}

  void run(const sql::ClearBackupHistory& statement, sql::SessionContext& session,
           sql::RowSink& sink, const Stop&) override {
    using What = sql::ClearBackupHistory::What;
    using Outcome = state::History::Outcome;
    require_administrator(session, "clear the history of backups");
    switch (statement.what) {
      case What::All:
        history_.clear(Outcome::Any);
        break;
      case What::Success:
        history_.clear(Outcome::Success);
        break;
      case What::Failure:
        history_.clear(Outcome::Failure);
        break;
      case What::One:
        if (!history_.remove(statement.backup_id)) {
          throw Error(
              sqlstate::kUndefinedObject,
              fmt::format("backup with ID {} does not exist in the history", statement.backup_id));
        }
        break;
    }
    sink.complete("CLEAR BACKUP_HISTORY");
  }

 private:
  state::History& history_;
};

/// What a statement of SingleStore's says more than the BACKUP that it became.
void take_singlestore(const sql::SingleStoreBackup& statement, BackupPlace& place) {
  using Mode = sql::SingleStoreBackup::Mode;
  place.incremental = statement.mode == Mode::Differential;
  place.type = statement.mode == Mode::Init ? "INCR_INIT"
               : place.incremental          ? "INCR_DIFF"
                                            : "FULL";
  // Scripts of SingleStore's users cut its last part off for the next backup.
  place.path = place.collection;
  if (statement.tags.empty()) return;
  std::vector<std::string> tags;
  for (const sql::Text& tag : statement.tags) tags.push_back(tag.value);
  place.tags = fmt::format("{}", fmt::join(tags, ","));
}

}  // namespace

BackupPlace place_of(const std::string& description, const std::string& statement) {
  BackupPlace place;
  // The description names the subdirectory that was chosen, the statement whether one was given.
  const std::optional<sql::Statement> resolved = parsed(description);
  if (!resolved) return place;
  if (const auto* backup = std::get_if<sql::Backup>(&*resolved)) {
    place.databases = names_in(backup->targets);
    place.collection = backup->into.front().value;
    place.path = backup->onto ? path_of(*place.collection, *backup->onto) : *place.collection;
    const std::optional<sql::Statement> given = parsed(statement);
    const auto* asked = given ? std::get_if<sql::Backup>(&*given) : nullptr;
    place.incremental = asked != nullptr && asked->onto.has_value();
    if (place.incremental) place.type = "INCR_DIFF";
    if (const auto* other = given ? std::get_if<sql::SingleStoreBackup>(&*given) : nullptr) {
      take_singlestore(*other, place);
    }
  } else if (const auto* restore = std::get_if<sql::Restore>(&*resolved)) {
    place.databases = names_in(restore->targets);
    place.collection = restore->in.front().value;
    place.path = path_of(*place.collection, restore->from);
  } else if (const auto* verify = std::get_if<sql::VerifyBackup>(&*resolved)) {
    place.collection = verify->in.front().value;
    place.path = path_of(*place.collection, verify->from);
  }
  return place;
}

void add_history_statements(Dispatcher& dispatcher, const HistoryServices& services) {
  dispatcher.add<InformationSchemaView>(std::make_unique<ViewStatement>(services));
  dispatcher.add<sql::ClearBackupHistory>(std::make_unique<ClearStatement>(services.history));
}

}  // namespace holdfast::statements
