#include "sql/columns.h"

#include <span>
#include <string>
#include <string_view>

namespace holdfast::sql {
namespace {

/// A Column whose name is known at compile time.
struct FixedColumn {
  std::string_view name;
  ColumnType type;
};
using Fixed = std::span<const FixedColumn>;

constexpr ColumnType kInt = ColumnType::Int8;
constexpr ColumnType kFloatType = ColumnType::Float8;
constexpr ColumnType kText = ColumnType::Text;
constexpr ColumnType kBool = ColumnType::Bool;
constexpr ColumnType kTime = ColumnType::TimestampTz;
constexpr ColumnType kJson = ColumnType::Jsonb;
constexpr ColumnType kBytea = ColumnType::Bytea;
constexpr ColumnType kTextArray = ColumnType::TextArray;

// clang-format off
constexpr FixedColumn kFinishedJob[] = {
    {"job_id", kInt}, {"status", kText}, {"fraction_completed", kFloatType}, {"rows", kInt}};
constexpr FixedColumn kDetachedJob[] = {{"job_id", kInt}};
constexpr FixedColumn kOnlineRestore[] = {
    {"job_id", kInt}, {"tables", kInt}, {"approx_rows", kInt}, {"approx_bytes", kInt},
    {"background_download_job_id", kInt}};

constexpr FixedColumn kVerifiedBackup[] = {
    {"job_id", kInt}, {"status", kText}, {"path", kText}, {"databases", kInt}, {"tables", kInt},
    {"indexes", kInt}, {"unchecked", kInt}, {"bytes", kInt}};

constexpr FixedColumn kBackupPaths[] = {{"path", kText}};
constexpr FixedColumn kBackupIds[] = {
    {"id", kText}, {"backup_time", kTime}, {"revision_start_time", kTime}};

constexpr FixedColumn kBackupFiles[] = {
    {"path", kText}, {"backup_type", kText}, {"start_pretty", kText}, {"end_pretty", kText},
    {"start_key", kBytea}, {"end_key", kBytea}, {"size_bytes", kInt}, {"rows", kInt},
    {"locality", kText}, {"file_bytes", kInt}};
constexpr FixedColumn kBackupRanges[] = {
    {"start_pretty", kText}, {"end_pretty", kText}, {"start_key", kBytea}, {"end_key", kBytea}};
constexpr FixedColumn kBackupValidation[] = {{"validation_status", kText}};
constexpr FixedColumn kBackupWindows[] = {
    {"start_time", kTime}, {"end_time", kTime}, {"timeline", kInt}, {"start_lsn", kText},
    {"end_lsn", kText}};
constexpr FixedColumn kBackupManifest[] = {{"manifest", kJson}};
constexpr FixedColumn kBackupObjects[] = {
    {"object_type", kText}, {"backup_type", kText}, {"start_time", kTime}, {"end_time", kTime},
    {"size_bytes", kInt}, {"rows", kInt}, {"is_full_cluster", kBool}, {"regions", kText}};

constexpr FixedColumn kJobList[] = {
    {"job_id", kInt}, {"job_type", kText}, {"description", kText}, {"user_name", kText},
    {"status", kText}, {"running_status", kText}, {"created", kTime}, {"finished", kTime},
    {"modified", kTime}, {"fraction_completed", kFloatType}, {"error", kText},
    {"coordinator_id", kInt}};
constexpr FixedColumn kOneJob[] = {
    {"job_id", kInt}, {"job_type", kText}, {"description", kText}, {"statement", kText},
    {"user_name", kText}, {"status", kText}, {"running_status", kText}, {"created", kTime},
    {"finished", kTime}, {"modified", kTime}, {"fraction_completed", kFloatType}, {"error", kText},
    {"coordinator_id", kInt}, {"trace_id", kInt}, {"execution_errors", kTextArray}};
constexpr FixedColumn kExecutionDetails[] = {
    {"plan_diagram", kText}, {"component_fraction_progressed", kJson}};

constexpr FixedColumn kNewSchedule[] = {
    {"schedule_id", kInt}, {"name", kText}, {"status", kText}, {"first_run", kTime},
    {"schedule", kText}, {"backup_stmt", kText}};
constexpr FixedColumn kSchedules[] = {
    {"id", kInt}, {"label", kText}, {"schedule_status", kText}, {"next_run", kTime},
    {"state", kText}, {"recurrence", kText}, {"jobsrunning", kInt}, {"owner", kText},
    {"created", kTime}, {"on_previous_running", kText}, {"on_execution_failure", kText}};
constexpr FixedColumn kScheduleStatement[] = {{"schedule_id", kInt}, {"create_statement", kText}};

constexpr FixedColumn kConnections[] = {
    {"connection_name", kText}, {"connection_uri", kText}, {"connection_type", kText}};
constexpr FixedColumn kConnectionStatement[] = {
    {"connection_name", kText}, {"create_statement", kText}};
constexpr FixedColumn kConnectionCheck[] = {
    {"node", kInt}, {"locality", kText}, {"ok", kBool}, {"error", kText}, {"transferred", kText},
    {"read_speed", kText}, {"write_speed", kText}, {"can_delete", kBool}};
// Source of the names: SingleStore 9.1; from job_id on they are ours.
constexpr FixedColumn kBackupHistory[] = {
    {"backup_id", kInt}, {"cluster_name", kText}, {"cluster_id", kText}, {"database_name", kText},
    {"start_timestamp", kTime}, {"end_timestamp", kTime}, {"num_partitions", kInt},
    {"backup_path", kText}, {"checksum", kText}, {"status", kText}, {"size", kInt},
    {"incr_backup_id", kInt}, {"type", kText}, {"tags", kText}, {"server_version", kText},
    {"memory_usage", kInt}, {"implementation", kText}, {"lockfree_timestamp", kInt},
    {"error_code", kText}, {"error_message", kText},
    {"job_id", kInt}, {"schedule_id", kInt}, {"user_name", kText}, {"size_bytes", kInt},
    {"rows", kInt}};
constexpr FixedColumn kBackupStatus[] = {
    {"origin_node_id", kInt}, {"database_name", kText}, {"target", kText},
    {"rowstore_progress", kFloatType}, {"columnstore_progress", kFloatType}, {"status", kText},
    {"step_est_sec_remain", kInt}, {"job_id", kInt}};
constexpr FixedColumn kDeletedBackups[] = {
    {"job_id", kInt}, {"subdirectory", kText}, {"start_time", kTime}, {"end_time", kTime},
    {"layers", kInt}, {"bytes", kInt}, {"action", kText}, {"reason", kText}};
constexpr FixedColumn kBackupId[] = {{"backup_id", kInt}};
constexpr FixedColumn kNewMilestone[] = {
    {"milestone_name", kText}, {"milestone_time", kTime}, {"database_name", kText}};
// Source of the names: SingleStore 9.1; from timeline on they are ours.
constexpr FixedColumn kMilestones[] = {
    {"milestone_name", kText}, {"milestone_time", kTime}, {"database_name", kText},
    {"database_location", kText}, {"timeline", kInt}, {"lsn", kText}, {"user_name", kText}};
constexpr FixedColumn kNewWalArchive[] = {{"job_id", kInt}, {"slot", kText}};
constexpr FixedColumn kWalArchives[] = {
    {"collection", kText}, {"mode", kText}, {"job_id", kInt}, {"status", kText}, {"slot", kText},
    {"timeline", kInt}, {"archived_lsn", kText}, {"archived_time", kTime},
    {"lag_bytes", kInt}, {"protected_bytes", kInt}, {"protected_since", kTime}, {"message", kText}};
// clang-format on

class Builder {
 public:
  Builder& add(Fixed columns) {
    for (const FixedColumn& column : columns) add(column.name, column.type);
    return *this;
  }
  Builder& add(std::string_view name, ColumnType type) {
    columns_.push_back({std::string(name), type});
    return *this;
  }
  std::vector<Column> take() { return std::move(columns_); }

 private:
  std::vector<Column> columns_;
};

std::vector<Column> fixed(Fixed columns) { return Builder().add(columns).take(); }

std::vector<Column> objects(const ShowBackup& show) {
  bool ids = show.options.flag("debug_ids");
  Builder columns;
  columns.add("database_name", kText);
  if (ids) columns.add("database_id", kInt);
  columns.add("parent_schema_name", kText);
  if (ids) columns.add("parent_schema_id", kInt);
  columns.add("object_name", kText);
  if (ids) columns.add("object_id", kInt);
  columns.add(kBackupObjects);
  if (show.what == ShowBackup::What::Schemas) columns.add("create_statement", kText);
  if (show.options.flag("privileges")) columns.add("privileges", kText).add("owner", kText);
  if (show.options.flag("check_files")) columns.add("file_bytes", kInt);
  return columns.take();
}

struct ColumnsOf {
  std::vector<Column> operator()(const Backup& s) const {
    return fixed(s.options.flag("detached") ? Fixed(kDetachedJob) : Fixed(kFinishedJob));
  }
  std::vector<Column> operator()(const Restore& s) const {
    if (s.options.flag("detached")) return fixed(kDetachedJob);
    bool online =
        s.options.flag("experimental deferred copy") || s.options.flag("experimental copy");
    return fixed(online ? Fixed(kOnlineRestore) : Fixed(kFinishedJob));
  }
  std::vector<Column> operator()(const VerifyBackup& s) const {
    return fixed(s.options.flag("detached") ? Fixed(kDetachedJob) : Fixed(kVerifiedBackup));
  }
  std::vector<Column> operator()(const ShowBackups& s) const {
    return fixed(s.options.flag("revision start time") ? Fixed(kBackupIds) : Fixed(kBackupPaths));
  }
  std::vector<Column> operator()(const ShowBackup& s) const {
    if (s.options.flag("as_json")) return fixed(kBackupManifest);
    switch (s.what) {
      case ShowBackup::What::Files:
        return fixed(kBackupFiles);
      case ShowBackup::What::Ranges:
        return fixed(kBackupRanges);
      case ShowBackup::What::Validate:
        return fixed(kBackupValidation);
      case ShowBackup::What::Windows:
        return fixed(kBackupWindows);
      default:
        return objects(s);
    }
  }
  std::vector<Column> operator()(const ShowJobs& s) const {
    Builder columns;
    columns.add(s.form == ShowJobs::Form::Job ? Fixed(kOneJob) : Fixed(kJobList));
    if (s.options.flag("execution details")) columns.add(kExecutionDetails);
    return columns.take();
  }
  std::vector<Column> operator()(const CreateSchedule&) const { return fixed(kNewSchedule); }
  std::vector<Column> operator()(const AlterBackupSchedule&) const { return fixed(kNewSchedule); }
  std::vector<Column> operator()(const ShowSchedules& s) const {
    Builder columns;
    columns.add(kSchedules);
    if (s.type == ShowSchedules::For::Backup) {
      return columns.add("command", kText).add("backup_type", kText).take();
    }
    return columns.add("command", kJson).take();
  }
  std::vector<Column> operator()(const ShowCreateSchedule&) const {
    return fixed(kScheduleStatement);
  }
  std::vector<Column> operator()(const ShowExternalConnections&) const {
    return fixed(kConnections);
  }
  std::vector<Column> operator()(const ShowCreateExternalConnections&) const {
    return fixed(kConnectionStatement);
  }
  std::vector<Column> operator()(const CheckExternalConnection&) const {
    return fixed(kConnectionCheck);
  }
  std::vector<Column> operator()(const InformationSchemaView& s) const {
    static constexpr Fixed kView[] = {kBackupHistory, kBackupStatus, kMilestones};
    return fixed(kView[static_cast<int>(s.view)]);
  }
  std::vector<Column> operator()(const DeleteBackups& s) const {
    return fixed(s.options.flag("detached") ? Fixed(kDetachedJob) : Fixed(kDeletedBackups));
  }
  std::vector<Column> operator()(const SingleStoreBackup&) const { return fixed(kBackupId); }
  std::vector<Column> operator()(const SingleStoreRestore&) const { return fixed(kFinishedJob); }
  std::vector<Column> operator()(const CreateMilestone&) const { return fixed(kNewMilestone); }
  std::vector<Column> operator()(const ShowMilestones&) const { return fixed(kMilestones); }
  std::vector<Column> operator()(const CreateWalArchive&) const { return fixed(kNewWalArchive); }
  std::vector<Column> operator()(const ShowWalArchives&) const { return fixed(kWalArchives); }
  // Those that return no rows, by name, so that a new statement has to be placed.
  std::vector<Column> operator()(const DropWalArchive&) const { return {}; }
  std::vector<Column> operator()(const JobControl&) const { return {}; }
  std::vector<Column> operator()(const AlterJobOwner&) const { return {}; }
  std::vector<Column> operator()(const AlterBackupKeys&) const { return {}; }
  std::vector<Column> operator()(const ScheduleControl&) const { return {}; }
  std::vector<Column> operator()(const ClearBackupHistory&) const { return {}; }
  std::vector<Column> operator()(const GrantOnConnection&) const { return {}; }
  std::vector<Column> operator()(const CreateExternalConnection&) const { return {}; }
  std::vector<Column> operator()(const AlterExternalConnection&) const { return {}; }
  std::vector<Column> operator()(const DropExternalConnection&) const { return {}; }
};

}  // namespace

std::vector<Column> columns_of(const Statement& statement) {
  return std::visit(ColumnsOf(), statement);
}

}  // namespace holdfast::sql
