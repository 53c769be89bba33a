#include "sql/columns.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "sql/parser.h"

namespace holdfast::sql {
namespace {

std::string names(std::string_view statement) {
  std::string result;
  for (const Column& column : columns_of(parse(statement))) {
    if (!result.empty()) result += ' ';
    result += column.name;
  }
  return result;
}

TEST(Columns, OfBackupAndRestore) {
  EXPECT_EQ(names("BACKUP INTO 'x'"), "job_id status fraction_completed rows");
  EXPECT_EQ(names("BACKUP INTO 'x' WITH detached"), "job_id");
  EXPECT_EQ(names("BACKUP INTO 'x' WITH detached = false"),
            "job_id status fraction_completed rows");
  EXPECT_EQ(names("RESTORE FROM LATEST IN 'x'"), "job_id status fraction_completed rows");
  EXPECT_EQ(names("RESTORE FROM LATEST IN 'x' WITH detached"), "job_id");
  EXPECT_EQ(names("RESTORE FROM LATEST IN 'x' WITH experimental deferred copy"),
            "job_id tables approx_rows approx_bytes background_download_job_id");
}

TEST(Columns, OfShowBackups) {
  EXPECT_EQ(names("SHOW BACKUPS IN 'x'"), "path");
  EXPECT_EQ(names("SHOW BACKUPS IN 'x' WITH REVISION START TIME"),
            "id backup_time revision_start_time");
}

TEST(Columns, OfShowBackupAndItsVariants) {
  EXPECT_EQ(names("SHOW BACKUP FROM LATEST IN 'x'"),
            "database_name parent_schema_name object_name object_type backup_type start_time "
            "end_time size_bytes rows is_full_cluster regions");
  EXPECT_EQ(names("SHOW BACKUP SCHEMAS FROM LATEST IN 'x' WITH debug_ids, privileges, check_files"),
            "database_name database_id parent_schema_name parent_schema_id object_name object_id "
            "object_type backup_type start_time end_time size_bytes rows is_full_cluster regions "
            "create_statement privileges owner file_bytes");
  EXPECT_EQ(names("SHOW BACKUP FROM LATEST IN 'x' WITH as_json"), "manifest");
  EXPECT_EQ(names("SHOW BACKUP FILES FROM LATEST IN 'x'"),
            "path backup_type start_pretty end_pretty start_key end_key size_bytes rows locality "
            "file_bytes");
  EXPECT_EQ(names("SHOW BACKUP RANGES FROM LATEST IN 'x'"),
            "start_pretty end_pretty start_key end_key");
  EXPECT_EQ(names("SHOW BACKUP VALIDATE FROM LATEST IN 'x'"), "validation_status");
}

TEST(Columns, OfShowJobs) {
  EXPECT_EQ(names("SHOW JOBS"),
            "job_id job_type description user_name status running_status created finished modified "
            "fraction_completed error coordinator_id");
  EXPECT_EQ(
      names("SHOW JOB 1"),
      "job_id job_type description statement user_name status running_status created finished "
      "modified fraction_completed error coordinator_id trace_id execution_errors");
}

TEST(Columns, OfSchedulesAndConnections) {
  std::string schedules =
      "id label schedule_status next_run state recurrence jobsrunning owner created "
      "on_previous_running on_execution_failure command";
  EXPECT_EQ(names("SHOW SCHEDULES"), schedules);
  EXPECT_EQ(names("SHOW SCHEDULES FOR BACKUP"), schedules + " backup_type");
  EXPECT_EQ(names("ALTER BACKUP SCHEDULE 1 EXECUTE IMMEDIATELY"),
            "schedule_id name status first_run schedule backup_stmt");
  EXPECT_EQ(names("SHOW CREATE ALL SCHEDULES"), "schedule_id create_statement");
  EXPECT_EQ(names("SHOW EXTERNAL CONNECTIONS"), "connection_name connection_uri connection_type");
  EXPECT_EQ(names("SHOW CREATE EXTERNAL CONNECTION c"), "connection_name create_statement");
  EXPECT_EQ(names("CHECK EXTERNAL CONNECTION 'x'"),
            "node locality ok error transferred read_speed write_speed can_delete");
}

TEST(Columns, OfDeleteBackups) {
  EXPECT_EQ(names("DELETE BACKUPS KEEP 1 FULLS IN 'x'"),
            "job_id subdirectory start_time end_time layers bytes action reason");
  EXPECT_EQ(names("DELETE BACKUPS KEEP 1 FULLS IN 'x' WITH detached"), "job_id");
  EXPECT_EQ(names("VERIFY BACKUP LATEST IN 'x'"),
            "job_id status path databases tables indexes unchecked bytes");
  EXPECT_EQ(names("VERIFY BACKUP LATEST IN 'x' WITH detached"), "job_id");
}

TEST(Columns, OfSingleStoresStatements) {
  EXPECT_EQ(names("BACKUP DATABASE d TO 'x'"), "backup_id");
  EXPECT_EQ(names("RESTORE DATABASE d FROM 'x'"), "job_id status fraction_completed rows");
}

TEST(Columns, OfMilestones) {
  EXPECT_EQ(names("CREATE MILESTONE"), "milestone_name milestone_time database_name");
  const std::string list =
      "milestone_name milestone_time database_name database_location timeline lsn user_name";
  EXPECT_EQ(names("SHOW MILESTONES IN 'x'"), list);
  EXPECT_EQ(names("information_schema.mv_milestones"), list);
}

TEST(Columns, AreAbsentForStatementsWithoutRows) {
  EXPECT_EQ(names("PAUSE JOB 1"), "");
  EXPECT_EQ(names("DROP SCHEDULE 1"), "");
  EXPECT_EQ(names("CREATE EXTERNAL CONNECTION c AS 'x'"), "");
}

TEST(Columns, HaveTheirTypes) {
  std::vector<Column> columns = columns_of(parse("SHOW JOB 1"));
  EXPECT_EQ(columns[0].type, ColumnType::Int8);
  EXPECT_EQ(columns[2].type, ColumnType::Text);
  EXPECT_EQ(columns[7].type, ColumnType::TimestampTz);
  EXPECT_EQ(columns[10].type, ColumnType::Float8);
  EXPECT_EQ(columns[14].type, ColumnType::TextArray);
}

}  // namespace
}  // namespace holdfast::sql
