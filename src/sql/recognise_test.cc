#include "sql/recognise.h"

#include <gtest/gtest.h>

namespace holdfast::sql {
namespace {

TEST(Recognise, LeavesPostgresStatementsAlone) {
  for (std::string_view text : {
           "",
           " ",
           "-- only a comment",
           "/* open",
           ";",
           "SELECT 1",
           "select a[1], b[show]",
           "INSERT INTO t VALUES ('[SHOW JOBS]')",
           "SELECT '[SHOW JOBS]', \"[SHOW JOBS]\"",
           "SELECT $$[SHOW JOBS]$$ /* [SHOW JOBS] */ -- [SHOW JOBS]",
           "SELECT (SHOW JOBS)",
           "SHOW ALL",
           "SHOW server_version",
           "SHOW jobs.limit",
           "SHOW TIME ZONE",
           "SHOW",
           "SHOW backup_x",
           "SHOW wal",
           "SHOW wal_level",
           "SHOW milestones",
           "SHOW milestones.in",
           "CREATE TABLE milestone ()",
           "DROP MILESTONE 'x'",
           "SELECT 1 FROM milestones",
           "CREATE WAL",
           "SHOW \"jobs\"",
           "SHOW CREATE",
           "SHOW TRANSACTION ISOLATION LEVEL",
           "CREATE EXTERNAL TABLE t ()",
           "CREATE TABLE backup ()",
           "CREATE TABLE t AS SELECT 1",
           "CREATE VIEW v AS SELECT * FROM [SHOW JOBS]",
           "ALTER TABLE backup ADD a int",
           "ALTER EXTERNAL TABLE t",
           "DROP TABLE schedule",
           "DROP SCHEMA schedules",
           "CHECK",
           "DELETE FROM backups",
           "DELETE BACKUPS",
           "VERIFY t",
           "DELETE backups WHERE older",
           "DELETE FROM older USING backups",
           "CHECKPOINT",
           "EXECUTE schedule",
           "EXECUTE schedule;",
           "EXECUTE schedule (1)",
           "EXECUTE schedules ((1))",
           "EXECUTE other (1)",
           "BACKUPS",
           "backup1",
           "\"backup\" into x",
           "BEGIN",
           "COPY t FROM STDIN",
           "SELECT * FROM [SHOW ALL]",
           "SELECT * FROM [SHOW JOBS",
           "SELECT * FROM [SHOW JOBS)",
           "SELECT * FROM [SHOW JOBS] WHERE x = 'open",
           "WITH show AS (SHOW server_version) SELECT 1",
           "PREPARE p AS SELECT * FROM [SHOW JOBS]",
       }) {
    EXPECT_EQ(recognise(text), StatementKind::NotOurs) << text;
  }
}

TEST(Recognise, ClaimsOurStatementsBehindCommentsAndInAnyCase) {
  for (std::string_view text : {
           "BACKUP INTO 'x'",
           "  \n\t\f--c\r\nbackup into 'x'",
           "/* a /* b */ c */Restore",
           "PAUSE",
           "resume JOB 1",
           "CANCEL JOB 1",
           "SHOW/**/JOBS",
           "show backups in 'x'",
           "SHOW CREATE ALL SCHEDULES",
           "SHOW CREATE EXTERNAL CONNECTION x",
           "SHOW JOB 1",
           "SHOW jobs",
           "CREATE SCHEDULE x",
           "CREATE EXTERNAL CONNECTION x",
           "ALTER BACKUP 'x'",
           "ALTER EXTERNAL CONNECTION x",
           "ALTER JOB 1 OWNER TO x",
           "DROP SCHEDULE 1",
           "DROP SCHEDULES SELECT 1",
           "DROP EXTERNAL CONNECTION x",
           "CHECK EXTERNAL CONNECTION 'x'",
           "clear backup_history",
           "create milestone",
           "CREATE MILESTONE 'x' FOR bank",
           "show/**/milestones in 'x'",
           "DELETE BACKUPS OLDER THAN '30 days' IN 'x'",
           "VERIFY BACKUP LATEST IN 'x'",
           "delete/**/backups keep 7 fulls in 'x'",
           "GRANT ALL PRIVILEGES ON EXTERNAL CONNECTION x TO y",
           "revoke usage, drop on external connection x from y",
           "EXECUTE SCHEDULE 1",
           "EXECUTE SCHEDULES (SELECT 1)",
           "EXECUTE SCHEDULE ((SELECT 1))",
       }) {
    EXPECT_EQ(recognise(text), StatementKind::Ours) << text;
  }
}

TEST(Recognise, KeepsABrokenStatementOfOursFromTheServersLog) {
  EXPECT_EQ(recognise("BACKUP INTO 'x' WITH encryption_passphrase = 'open"), StatementKind::Ours);
}

TEST(Recognise, FindsQueriesThatUseAShowAsARowSource) {
  for (std::string_view text : {
           "SELECT * FROM [SHOW JOBS]",
           "select 1 from[ /* c */ show jobs]",
           "SELECT * FROM [\n  SHOW BACKUP FROM LATEST IN 'a]b' WITH check_files] WHERE x",
           "WITH x AS (SHOW JOBS) SELECT * FROM x",
           "WITH x AS NOT MATERIALIZED ( SHOW JOBS ) SELECT * FROM x",
           "TABLE [SHOW JOBS]",
           "EXPLAIN ANALYZE SELECT * FROM [SHOW JOBS]",
           "INSERT INTO t SELECT * FROM [SHOW JOBS]",
           "CREATE TEMP TABLE t AS SELECT * FROM [SHOW JOBS]",
           "(SELECT * FROM [SHOW JOBS])",
           "SELECT a[1], '[', (SELECT count(*) FROM [SHOW SCHEDULES])",
           "SELECT 1_000 FROM [SHOW JOBS]",
           "COPY (SELECT * FROM [SHOW JOBS]) TO STDOUT",
           "SELECT * FROM INFORMATION_SCHEMA.MV_BACKUP_HISTORY",
           "select 1 from a join information_schema . mv_backup_status s on true",
           "TABLE information_schema.mv_backup_history",
           "TABLE information_schema.mv_milestones",
       }) {
    EXPECT_EQ(recognise(text), StatementKind::Rewritten) << text;
  }
}

}  // namespace
}  // namespace holdfast::sql
