#include "statements/statement_name.h"

namespace holdfast::statements {

namespace {

struct Namer {
  std::string_view operator()(const sql::Backup&) const { return "BACKUP"; }
  std::string_view operator()(const sql::Restore&) const { return "RESTORE"; }
  std::string_view operator()(const sql::VerifyBackup&) const { return "VERIFY BACKUP"; }
  std::string_view operator()(const sql::ShowBackups&) const { return "SHOW BACKUPS"; }
  std::string_view operator()(const sql::ShowBackup&) const { return "SHOW BACKUP"; }
  std::string_view operator()(const sql::ShowJobs&) const { return "SHOW JOBS"; }
  std::string_view operator()(const sql::JobControl& control) const {
    switch (control.action) {
      case sql::JobControl::Action::Pause:
        return "PAUSE JOBS";
      case sql::JobControl::Action::Resume:
        return "RESUME JOBS";
      case sql::JobControl::Action::Cancel:
        break;
    }
    return "CANCEL JOBS";
  }
  std::string_view operator()(const sql::AlterJobOwner&) const { return "ALTER JOB"; }
  std::string_view operator()(const sql::AlterBackupKeys&) const { return "ALTER BACKUP"; }
  std::string_view operator()(const sql::CreateSchedule&) const { return "CREATE SCHEDULE"; }
  std::string_view operator()(const sql::AlterBackupSchedule&) const {
    return "ALTER BACKUP SCHEDULE";
  }
  std::string_view operator()(const sql::ShowSchedules&) const { return "SHOW SCHEDULES"; }
  std::string_view operator()(const sql::ShowCreateSchedule&) const {
    return "SHOW CREATE SCHEDULE";
  }
  std::string_view operator()(const sql::ScheduleControl& control) const {
    switch (control.action) {
      case sql::ScheduleControl::Action::Pause:
        return "PAUSE SCHEDULES";
      case sql::ScheduleControl::Action::Resume:
        return "RESUME SCHEDULES";
      case sql::ScheduleControl::Action::Drop:
        return "DROP SCHEDULES";
      case sql::ScheduleControl::Action::Execute:
        break;
    }
    return "EXECUTE SCHEDULES";
  }
  std::string_view operator()(const sql::CreateExternalConnection&) const {
    return "CREATE EXTERNAL CONNECTION";
  }
  std::string_view operator()(const sql::AlterExternalConnection&) const {
    return "ALTER EXTERNAL CONNECTION";
  }
  std::string_view operator()(const sql::DropExternalConnection&) const {
    return "DROP EXTERNAL CONNECTION";
  }
  std::string_view operator()(const sql::ShowExternalConnections&) const {
    return "SHOW EXTERNAL CONNECTIONS";
  }
  std::string_view operator()(const sql::ShowCreateExternalConnections&) const {
    return "SHOW CREATE EXTERNAL CONNECTION";
  }
  std::string_view operator()(const sql::GrantOnConnection& grant) const {
    return grant.action == sql::GrantOnConnection::Action::Grant ? "GRANT" : "REVOKE";
  }
  std::string_view operator()(const sql::ClearBackupHistory&) const {
    return "CLEAR BACKUP_HISTORY";
  }
  std::string_view operator()(const sql::InformationSchemaView&) const {
    return "the information schema of backups";
  }
  std::string_view operator()(const sql::CheckExternalConnection&) const {
    return "CHECK EXTERNAL CONNECTION";
  }
  std::string_view operator()(const sql::DeleteBackups&) const { return "DELETE BACKUPS"; }
  std::string_view operator()(const sql::SingleStoreBackup&) const { return "BACKUP"; }
  std::string_view operator()(const sql::SingleStoreRestore&) const { return "RESTORE"; }
  std::string_view operator()(const sql::CreateMilestone&) const { return "CREATE MILESTONE"; }
  std::string_view operator()(const sql::ShowMilestones&) const { return "SHOW MILESTONES"; }
  std::string_view operator()(const sql::CreateWalArchive&) const { return "CREATE WAL ARCHIVE"; }
  std::string_view operator()(const sql::DropWalArchive&) const { return "DROP WAL ARCHIVE"; }
  std::string_view operator()(const sql::ShowWalArchives&) const { return "SHOW WAL ARCHIVES"; }
};

}  // namespace

std::string_view name_of(const sql::Statement& statement) { return std::visit(Namer(), statement); }

}  // namespace holdfast::statements
