#pragma once

#include <string_view>

namespace holdfast::sql {

struct StatementSample {
  std::string_view text;
  std::string_view printed;  ///< its canonical spelling
};

/// Every form of the grammar, and the statement as it is printed. Only for tests.
inline constexpr StatementSample kStatementSamples[] = {
    // BACKUP
    {"BACKUP INTO 's3://b/p?AUTH=implicit' AS OF SYSTEM TIME '-10s' WITH revision_history, "
     "detached;",
     "BACKUP INTO 's3://b/p?AUTH=implicit' AS OF SYSTEM TIME '-10s' WITH OPTIONS "
     "(revision_history, detached)"},
    {"BACKUP DATABASE a, b INTO LATEST IN 'external://coll' AS OF SYSTEM TIME '-10s'",
     "BACKUP DATABASE a, b INTO LATEST IN 'external://coll' AS OF SYSTEM TIME '-10s'"},
    {"BACKUP TABLE a.public.t, a.s.* INTO 'nodelocal://1/x' WITH encryption_passphrase = 'secret'",
     "BACKUP TABLE a.public.t, a.s.* INTO 'nodelocal://1/x' WITH OPTIONS (encryption_passphrase = "
     "'secret')"},
    {"BACKUP INTO ('gs://d/p?AUTH=implicit&COCKROACH_LOCALITY=default',\n"
     "  'gs://w/p?AUTH=implicit&COCKROACH_LOCALITY=region%3Dus-west1')",
     "BACKUP INTO ('gs://d/p?AUTH=implicit&COCKROACH_LOCALITY=default', "
     "'gs://w/p?AUTH=implicit&COCKROACH_LOCALITY=region%3Dus-west1')"},
    {"backup t into 'x'", "BACKUP TABLE t INTO 'x'"},
    {"BACKUP db.* INTO 'x'", "BACKUP TABLE db.* INTO 'x'"},
    {"BACKUP TABLE * INTO 'x'", "BACKUP TABLE * INTO 'x'"},
    {"BACKUP DATABASE \"My Db\", \"select\", größe INTO 'x'",
     "BACKUP DATABASE \"My Db\", \"select\", \"größe\" INTO 'x'"},
    {"BACKUP TABLE \"a\"\"b\".c.user INTO 'x'", "BACKUP TABLE \"a\"\"b\".c.\"user\" INTO 'x'"},
    {"BACKUP TENANT 5 INTO 'x'", "BACKUP VIRTUAL CLUSTER 5 INTO 'x'"},
    {"BACKUP VIRTUAL CLUSTER app INTO 'x'", "BACKUP VIRTUAL CLUSTER app INTO 'x'"},
    {"BACKUP tenant, virtual INTO 'x'", "BACKUP TABLE tenant, virtual INTO 'x'"},
    {"BACKUP INTO '2025/01/31-130501.25' IN 'x'", "BACKUP INTO '2025/01/31-130501.25' IN 'x'"},
    {"BACKUP INTO 'latest' IN ('x', 'y')", "BACKUP INTO LATEST IN ('x', 'y')"},
    {"BACKUP INTO $1 IN $2 WITH kms = $3", "BACKUP INTO $1 IN $2 WITH OPTIONS (kms = $3)"},
    {"BACKUP INTO 'x' AS OF SYSTEM TIME '2025-01-02 03:04:05'",
     "BACKUP INTO 'x' AS OF SYSTEM TIME '2025-01-02 03:04:05'"},
    {"BACKUP INTO 'x' AS OF SYSTEM TIME 1577836800000000000",
     "BACKUP INTO 'x' AS OF SYSTEM TIME 1577836800000000000"},
    {"BACKUP INTO 'x' AS OF SYSTEM TIME 1577836800000000000.0000000001 WITH detached",
     "BACKUP INTO 'x' AS OF SYSTEM TIME 1577836800000000000.0000000001 WITH OPTIONS (detached)"},
    {"BACKUP INTO 'x' AS OF SYSTEM TIME INTERVAL '-1h'",
     "BACKUP INTO 'x' AS OF SYSTEM TIME INTERVAL '-1h'"},
    {"BACKUP INTO 'x' AS OF SYSTEM TIME follower_read_timestamp()",
     "BACKUP INTO 'x' AS OF SYSTEM TIME follower_read_timestamp()"},
    {"BACKUP INTO 'x' AS OF SYSTEM TIME '2025-01-02'::timestamp with time zone -- when\n"
     "  WITH detached",
     "BACKUP INTO 'x' AS OF SYSTEM TIME '2025-01-02'::timestamp with time zone WITH OPTIONS "
     "(detached)"},
    {"BACKUP INTO 'x' WITH OPTIONS (revision_history = false, detached = TRUE, kms = ('a', 'b'), "
     "incremental_location = 'y', execution locality = 'region=us,cloud=aws', "
     "updates_cluster_monitoring_metrics, include_all_virtual_clusters = true, strict storage "
     "locality)",
     "BACKUP INTO 'x' WITH OPTIONS (revision_history = false, detached, kms = ('a', 'b'), "
     "incremental_location = 'y', execution locality = 'region=us,cloud=aws', "
     "updates_cluster_monitoring_metrics, include_all_virtual_clusters = true, strict storage "
     "locality)"},
    {"BACKUP INTO 'x' WITH compression = 'zstd:3', max_rate = '50MB', allow_corrupt_pages, workers "
     "= 2",
     "BACKUP INTO 'x' WITH OPTIONS (compression = 'zstd:3', max_rate = '50MB', "
     "allow_corrupt_pages, workers = 2)"},
    {"BACKUP INTO 'x' WITH max_rate = 1000000",
     "BACKUP INTO 'x' WITH OPTIONS (max_rate = '1000000')"},

    // RESTORE
    {"RESTORE FROM LATEST IN 'x'", "RESTORE FROM LATEST IN 'x'"},
    {"RESTORE DATABASE a FROM LATEST IN 'external://coll' WITH new_db_name = 'a_copy'",
     "RESTORE DATABASE a FROM LATEST IN 'external://coll' WITH OPTIONS (new_db_name = 'a_copy')"},
    {"RESTORE TABLE a.t FROM '2025/01/31-130501.25' IN 'external://coll' AS OF SYSTEM TIME "
     "'2025-01-31 14:00:00'\n   WITH into_db = 'scratch', skip_missing_foreign_keys",
     "RESTORE TABLE a.t FROM '2025/01/31-130501.25' IN 'external://coll' AS OF SYSTEM TIME "
     "'2025-01-31 14:00:00' WITH OPTIONS (into_db = 'scratch', skip_missing_foreign_keys)"},
    {"RESTORE TABLE a.b.t FROM LATEST IN 'x' WITH where = $$region = 'west'$$, into_db = 'c'",
     "RESTORE TABLE a.b.t FROM LATEST IN 'x' WITH OPTIONS (where = 'region = ''west''', into_db = "
     "'c')"},
    {"RESTORE SYSTEM USERS FROM LATEST IN 'external://coll'",
     "RESTORE SYSTEM USERS FROM LATEST IN 'external://coll'"},
    {"RESTORE system.users, system FROM '/2025/01/31-130501.25' IN ('x', 'y')",
     "RESTORE TABLE system.users, system FROM '/2025/01/31-130501.25' IN ('x', 'y')"},
    {"RESTORE FROM LATEST IN 'x' WITH encryption_passphrase = 'p', incremental_location = ('y', "
     "'z'), skip_missing_sequences, skip_missing_sequence_owners, skip_missing_views, "
     "skip_missing_udfs, skip_localities_check, remove_regions, schema_only, "
     "verify_backup_table_data, detached, execution locality = 'a=b', "
     "unsafe_restore_incompatible_version, experimental deferred copy, experimental copy, "
     "virtual_cluster_name = 'v', virtual_cluster = 'w', include_all_virtual_clusters = false, "
     "grants",
     "RESTORE FROM LATEST IN 'x' WITH OPTIONS (encryption_passphrase = 'p', incremental_location = "
     "('y', 'z'), skip_missing_sequences, skip_missing_sequence_owners, skip_missing_views, "
     "skip_missing_udfs, skip_localities_check, remove_regions, schema_only, "
     "verify_backup_table_data, detached, execution locality = 'a=b', "
     "unsafe_restore_incompatible_version, experimental deferred copy, experimental copy, "
     "virtual_cluster_name = 'v', virtual_cluster = 'w', include_all_virtual_clusters = false, "
     "grants)"},
    {"RESTORE FROM LATEST IN 'x' WITH data_directory = '/new', tablespace_mapping = "
     "'16384=/a,/old=/b', delta, workers = 4, max_rate = '1GB', into_schema = 's', new_table_name "
     "= 't', kms = 'k'",
     "RESTORE FROM LATEST IN 'x' WITH OPTIONS (data_directory = '/new', tablespace_mapping = "
     "'16384=/a,/old=/b', delta, workers = 4, max_rate = '1GB', into_schema = 's', new_table_name "
     "= 't', kms = 'k')"},

    // VERIFY BACKUP
    {"VERIFY BACKUP LATEST IN 'external://coll'", "VERIFY BACKUP FROM LATEST IN 'external://coll'"},
    {"verify backup from '/2025/01/31-130501.25' in $1 as of system time '-1h' with detached, "
     "workers = 2, encryption_passphrase = 'p'",
     "VERIFY BACKUP FROM '/2025/01/31-130501.25' IN $1 AS OF SYSTEM TIME '-1h' WITH OPTIONS "
     "(detached, workers = 2, encryption_passphrase = 'p')"},

    // SHOW BACKUPS, SHOW BACKUP
    {"SHOW BACKUPS IN 'external://coll'", "SHOW BACKUPS IN 'external://coll'"},
    {"SHOW BACKUPS IN ('a', 'b') WITH INDEX", "SHOW BACKUPS IN ('a', 'b') WITH OPTIONS (index)"},
    {"SHOW BACKUPS IN 'a' OLDER THAN '-1h' NEWER THAN INTERVAL '-2 days' WITH REVISION START TIME",
     "SHOW BACKUPS IN 'a' NEWER THAN INTERVAL '-2 days' OLDER THAN '-1h' WITH OPTIONS (revision "
     "start time)"},
    {"SHOW BACKUP FROM LATEST IN 'external://coll' WITH check_files",
     "SHOW BACKUP FROM LATEST IN 'external://coll' WITH OPTIONS (check_files)"},
    {"SHOW BACKUP LATEST IN 'a'", "SHOW BACKUP FROM LATEST IN 'a'"},
    {"SHOW BACKUP '2025/01/31-130501.25' IN ('a', 'b')",
     "SHOW BACKUP FROM '2025/01/31-130501.25' IN ('a', 'b')"},
    {"SHOW BACKUP SCHEMAS FROM LATEST IN 'a' WITH OPTIONS (as_json, debug_ids, privileges, skip "
     "size, encryption_passphrase = 'p', incremental_location = 'b', encryption_info_dir = 'c')",
     "SHOW BACKUP SCHEMAS FROM LATEST IN 'a' WITH OPTIONS (as_json, debug_ids, privileges, skip "
     "size, encryption_passphrase = 'p', incremental_location = 'b', encryption_info_dir = 'c')"},
    {"SHOW BACKUP FILES FROM 'x' IN 'a'", "SHOW BACKUP FILES FROM 'x' IN 'a'"},
    {"SHOW BACKUP RANGES FROM LATEST IN 'a'", "SHOW BACKUP RANGES FROM LATEST IN 'a'"},
    {"SHOW BACKUP VALIDATE FROM LATEST IN 'a'", "SHOW BACKUP VALIDATE FROM LATEST IN 'a'"},
    {"SHOW BACKUP CONNECTION 'a' WITH TRANSFER = '1MiB', TIME = '1s'",
     "CHECK EXTERNAL CONNECTION 'a' WITH OPTIONS (transfer = '1MiB', time = '1s')"},

    // Jobs
    {"SHOW JOBS", "SHOW JOBS"},
    {"SHOW AUTOMATIC JOBS;", "SHOW AUTOMATIC JOBS"},
    {"SHOW JOBS SELECT id FROM t WITH EXECUTION DETAILS",
     "SHOW JOBS SELECT id FROM t WITH OPTIONS (execution details)"},
    {"SHOW JOBS (WITH x AS (SHOW JOBS) SELECT job_id FROM x)",
     "SHOW JOBS (WITH x AS (SHOW JOBS) SELECT job_id FROM x)"},
    {"SHOW JOBS WHEN COMPLETE VALUES (1), (2)", "SHOW JOBS WHEN COMPLETE VALUES (1), (2)"},
    {"SHOW JOBS FOR SCHEDULE 12", "SHOW JOBS FOR SCHEDULE 12"},
    {"SHOW JOBS FOR SCHEDULES SELECT id FROM [SHOW SCHEDULES] WHERE label = 'x'",
     "SHOW JOBS FOR SCHEDULES SELECT id FROM [SHOW SCHEDULES] WHERE label = 'x'"},
    {"SHOW JOB 27536791415282", "SHOW JOB 27536791415282"},
    {"SHOW JOB $1 WITH RESOLVED TIMESTAMP, EXECUTION DETAILS",
     "SHOW JOB $1 WITH OPTIONS (resolved timestamp, execution details)"},
    {"SHOW JOB WHEN COMPLETE 5", "SHOW JOB WHEN COMPLETE 5"},
    {"SHOW CHANGEFEED JOBS", "SHOW CHANGEFEED JOBS"},
    {"SHOW CHANGEFEED JOBS SELECT 1", "SHOW CHANGEFEED JOBS SELECT 1"},
    {"PAUSE JOB 5 WITH REASON = 'window'", "PAUSE JOB 5 WITH REASON = 'window'"},
    {"PAUSE JOBS (SELECT job_id FROM [SHOW JOBS] WHERE job_type = 'BACKUP' AND status = 'running') "
     "WITH REASON = 'window'",
     "PAUSE JOBS (SELECT job_id FROM [SHOW JOBS] WHERE job_type = 'BACKUP' AND status = 'running') "
     "WITH REASON = 'window'"},
    {"PAUSE JOBS WITH reason AS (SHOW JOBS) SELECT job_id FROM reason",
     "PAUSE JOBS WITH reason AS (SHOW JOBS) SELECT job_id FROM reason"},
    {"PAUSE JOBS FOR SCHEDULE 7", "PAUSE JOBS FOR SCHEDULE 7"},
    {"RESUME JOB (1 + 2) * $3", "RESUME JOB (1 + 2) * $3"},
    {"RESUME JOBS FOR SCHEDULES SELECT 1", "RESUME JOBS FOR SCHEDULES SELECT 1"},
    {"CANCEL JOB -5", "CANCEL JOB -5"},
    {"CANCEL JOBS TABLE t", "CANCEL JOBS TABLE t"},
    {"PAUSE ALL BACKUP JOBS", "PAUSE ALL BACKUP JOBS"},
    {"RESUME ALL RESTORE JOBS", "RESUME ALL RESTORE JOBS"},
    {"CANCEL ALL CHANGEFEED JOBS", "CANCEL ALL CHANGEFEED JOBS"},
    {"CANCEL ALL IMPORT JOBS", "CANCEL ALL IMPORT JOBS"},
    {"ALTER JOB 5 OWNER TO \"Alice\"", "ALTER JOB 5 OWNER TO \"Alice\""},
    {"ALTER JOB (SELECT 5) OWNER TO CURRENT_USER",
     "ALTER JOB (SELECT 5) OWNER TO \"current_user\""},

    // ALTER BACKUP
    {"ALTER BACKUP LATEST IN 'external://coll' ADD NEW_KMS = "
     "'aws:///k2?REGION=eu-west-1&AUTH=implicit'\n   WITH OLD_KMS = "
     "'aws:///k1?REGION=us-east-1&AUTH=implicit'",
     "ALTER BACKUP LATEST IN 'external://coll' ADD NEW_KMS = "
     "'aws:///k2?REGION=eu-west-1&AUTH=implicit' WITH OLD_KMS = "
     "'aws:///k1?REGION=us-east-1&AUTH=implicit'"},
    {"ALTER BACKUP '2025/01/31-130501.25' IN 'c' ADD NEW_KMS = ('a', 'b') WITH OLD_KMS = ('d', "
     "'e')",
     "ALTER BACKUP '2025/01/31-130501.25' IN 'c' ADD NEW_KMS = ('a', 'b') WITH OLD_KMS = ('d', "
     "'e')"},
    {"ALTER BACKUP LATEST IN 'c' ADD new_passphrase = 'a' WITH old_passphrase = 'b'",
     "ALTER BACKUP LATEST IN 'c' ADD NEW_PASSPHRASE = 'a' WITH OLD_PASSPHRASE = 'b'"},
    {"ALTER BACKUP '2025/01/31-130501.25' IN 'c' ADD NEW_KMS = ('a', 'b') WITH OLD_PASSPHRASE = "
     "'d'",
     "ALTER BACKUP '2025/01/31-130501.25' IN 'c' ADD NEW_KMS = ('a', 'b') WITH OLD_PASSPHRASE = "
     "'d'"},
    {"ALTER BACKUP 'path' ADD NEW_KMS = 'a' WITH OLD_KMS = 'b'",
     "ALTER BACKUP 'path' ADD NEW_KMS = 'a' WITH OLD_KMS = 'b'"},

    // Schedules
    {"CREATE SCHEDULE nightly FOR BACKUP DATABASE a INTO 'external://coll' WITH revision_history\n"
     "   RECURRING '@hourly' FULL BACKUP '@daily' WITH SCHEDULE OPTIONS first_run = 'now', "
     "on_execution_failure = 'pause'",
     "CREATE SCHEDULE 'nightly' FOR BACKUP DATABASE a INTO 'external://coll' WITH OPTIONS "
     "(revision_history) RECURRING '@hourly' FULL BACKUP '@daily' WITH SCHEDULE OPTIONS (first_run "
     "= 'now', on_execution_failure = 'pause')"},
    {"CREATE SCHEDULE IF NOT EXISTS 'a label' FOR BACKUP INTO ('x', 'y') RECURRING '0 1 * * *' "
     "FULL "
     "BACKUP ALWAYS WITH SCHEDULE OPTIONS (first_run = now, on_previous_running = skip, "
     "ignore_existing_backups, updates_cluster_last_backup_time_metric)",
     "CREATE SCHEDULE IF NOT EXISTS 'a label' FOR BACKUP INTO ('x', 'y') RECURRING '0 1 * * *' "
     "FULL "
     "BACKUP ALWAYS WITH SCHEDULE OPTIONS (first_run = 'now', on_previous_running = 'skip', "
     "ignore_existing_backups, updates_cluster_last_backup_time_metric)"},
    {"CREATE SCHEDULE FOR BACKUP INTO 'x' RECURRING '@daily' WITH SCHEDULE OPTIONS retention = '30 "
     "days', keep_fulls = 7",
     "CREATE SCHEDULE FOR BACKUP INTO 'x' RECURRING '@daily' WITH SCHEDULE OPTIONS (retention = "
     "'30 "
     "days', keep_fulls = 7)"},
    {"CREATE SCHEDULE FOR BACKUP TABLE t INTO 'x' RECURRING '@weekly'",
     "CREATE SCHEDULE FOR BACKUP TABLE t INTO 'x' RECURRING '@weekly'"},
    {"ALTER BACKUP SCHEDULE 1145734748573630465 SET RECURRING '@daily', SET FULL BACKUP '@weekly'",
     "ALTER BACKUP SCHEDULE 1145734748573630465 SET RECURRING '@daily', SET FULL BACKUP '@weekly'"},
    {"ALTER BACKUP SCHEDULE 1 SET LABEL 'l', SET INTO ('a', 'b'), SET WITH kms = '', SET WITH "
     "revision_history = false, SET FULL BACKUP ALWAYS, SET SCHEDULE OPTION on_previous_running = "
     "'wait', SET SCHEDULE OPTION updates_cluster_last_backup_time_metric = 'f', EXECUTE FULL "
     "IMMEDIATELY",
     "ALTER BACKUP SCHEDULE 1 SET LABEL 'l', SET INTO ('a', 'b'), SET WITH kms = '', SET WITH "
     "revision_history = false, SET FULL BACKUP ALWAYS, SET SCHEDULE OPTION on_previous_running = "
     "'wait', SET SCHEDULE OPTION updates_cluster_last_backup_time_metric = false, EXECUTE FULL "
     "IMMEDIATELY"},
    {"ALTER BACKUP SCHEDULE 1 EXECUTE IMMEDIATELY", "ALTER BACKUP SCHEDULE 1 EXECUTE IMMEDIATELY"},
    {"SHOW SCHEDULES", "SHOW SCHEDULES"},
    {"SHOW RUNNING SCHEDULES FOR BACKUP", "SHOW RUNNING SCHEDULES FOR BACKUP"},
    {"SHOW PAUSED SCHEDULES FOR SQL STATISTICS", "SHOW PAUSED SCHEDULES FOR SQL STATISTICS"},
    {"SHOW SCHEDULES FOR CHANGEFEED", "SHOW SCHEDULES FOR CHANGEFEED"},
    {"SHOW SCHEDULE 12", "SHOW SCHEDULE 12"},
    {"SHOW CREATE SCHEDULE 12", "SHOW CREATE SCHEDULE 12"},
    {"SHOW CREATE ALL SCHEDULES", "SHOW CREATE ALL SCHEDULES"},
    {"PAUSE SCHEDULE 12", "PAUSE SCHEDULE 12"},
    {"RESUME SCHEDULES SELECT 1", "RESUME SCHEDULES SELECT 1"},
    {"DROP SCHEDULE $1", "DROP SCHEDULE $1"},
    {"DROP SCHEDULES WITH x AS (SHOW SCHEDULES) SELECT id FROM x WHERE label = 'l'",
     "DROP SCHEDULES WITH x AS (SHOW SCHEDULES) SELECT id FROM x WHERE label = 'l'"},
    {"EXECUTE SCHEDULE 12", "EXECUTE SCHEDULE 12"},
    {"EXECUTE SCHEDULES SELECT 12", "EXECUTE SCHEDULES SELECT 12"},

    // External connections
    {"CREATE EXTERNAL CONNECTION c AS 's3://b?AUTH=implicit'",
     "CREATE EXTERNAL CONNECTION c AS 's3://b?AUTH=implicit'"},
    {"CREATE EXTERNAL CONNECTION IF NOT EXISTS 'My c' AS $1",
     "CREATE EXTERNAL CONNECTION IF NOT EXISTS \"My c\" AS $1"},
    {"ALTER EXTERNAL CONNECTION IF EXISTS c AS 'x'",
     "ALTER EXTERNAL CONNECTION IF EXISTS c AS 'x'"},
    {"ALTER EXTERNAL CONNECTION if AS 'x'", "ALTER EXTERNAL CONNECTION if AS 'x'"},
    {"DROP EXTERNAL CONNECTION c", "DROP EXTERNAL CONNECTION c"},
    {"SHOW EXTERNAL CONNECTIONS", "SHOW EXTERNAL CONNECTIONS"},
    {"SHOW EXTERNAL CONNECTION c", "SHOW EXTERNAL CONNECTION c"},
    {"SHOW CREATE EXTERNAL CONNECTION c", "SHOW CREATE EXTERNAL CONNECTION c"},
    {"SHOW CREATE ALL EXTERNAL CONNECTIONS", "SHOW CREATE ALL EXTERNAL CONNECTIONS"},
    {"CHECK EXTERNAL CONNECTION 'x' WITH CONCURRENTLY = 3",
     "CHECK EXTERNAL CONNECTION 'x' WITH OPTIONS (concurrently = 3)"},
    {"grant usage, drop on external connection c, 'My One' to ann, \"Bob\"",
     "GRANT USAGE, DROP ON EXTERNAL CONNECTION c, \"My One\" TO ann, \"Bob\""},
    {"REVOKE ALL PRIVILEGES ON EXTERNAL CONNECTION c FROM public",
     "REVOKE USAGE, UPDATE, DROP ON EXTERNAL CONNECTION c FROM public"},
    {"clear backup_history", "CLEAR BACKUP_HISTORY"},
    {"CLEAR BACKUP_HISTORY backup_id = 7", "CLEAR BACKUP_HISTORY backup_id = 7"},
    {"CLEAR BACKUP_HISTORY success", "CLEAR BACKUP_HISTORY SUCCESS"},
    {"CLEAR BACKUP_HISTORY failure", "CLEAR BACKUP_HISTORY FAILURE"},

    // Retention
    {"DELETE BACKUPS OLDER THAN '30 days' IN 'x'", "DELETE BACKUPS OLDER THAN '30 days' IN 'x'"},
    {"delete backups older than interval '30 days' in $1 with dry_run",
     "DELETE BACKUPS OLDER THAN interval '30 days' IN $1 WITH OPTIONS (dry_run)"},
    {"DELETE BACKUPS KEEP 7 FULLS IN ('x', 'y') WITH OPTIONS (detached, dry_run)",
     "DELETE BACKUPS KEEP 7 FULLS IN ('x', 'y') WITH OPTIONS (detached, dry_run)"},
    {"DELETE BACKUPS KEEP 7 FULLS OLDER THAN now() - '1 day'::interval IN 'x';",
     "DELETE BACKUPS OLDER THAN now() - '1 day'::interval KEEP 7 FULLS IN 'x'"},

    // SingleStore
    {"BACKUP DATABASE bank TO 'backups/today'", "BACKUP DATABASE bank TO 'backups/today'"},
    {"backup bank to \"./backups\" timeout 60000;",
     "BACKUP DATABASE bank TO './backups' TIMEOUT 60000"},
    {"BACKUP DATABASE \"My Db\" WITH INIT TO S3 'b/p' TIMEOUT 5 CONFIG '{\"region\": \"x\"}' "
     "CREDENTIALS '{\"aws_access_key_id\": \"id\"}' (OPTION resource_pool = big) TAGS ('a', b)",
     "BACKUP DATABASE \"My Db\" WITH INIT TO S3 'b/p' TIMEOUT 5 CONFIG '{\"region\": \"x\"}' "
     "CREDENTIALS '{\"aws_access_key_id\": \"id\"}' (OPTION resource_pool = big) TAGS ('a', 'b')"},
    {"BACKUP DATABASE d WITH DIFFERENTIAL TO GCS $1 CREDENTIALS $2",
     "BACKUP DATABASE d WITH DIFFERENTIAL TO GCS $1 CREDENTIALS $2"},
    {"BACKUP d WITH SPLIT PARTITIONS BY 2 TO AZURE 'c/p' CONFIG '{}'",
     "BACKUP DATABASE d WITH SPLIT PARTITIONS TO AZURE 'c/p' CONFIG '{}'"},
    {"BACKUP DATABASE s3 TO S3 's3'", "BACKUP DATABASE s3 TO S3 's3'"},
    {"RESTORE DATABASE bank FROM 'backups/today'", "RESTORE DATABASE bank FROM 'backups/today'"},
    {"restore bank as bank2 from s3 'b/p' config '{}' credentials '{}' with file = 3",
     "RESTORE DATABASE bank AS bank2 FROM S3 'b/p' CONFIG '{}' CREDENTIALS '{}' WITH FILE = 3"},
    {"RESTORE DATABASE d FROM $1 WITH SYNC DURABILITY ASYNC REPLICATION (OPTION resource_pool = p)",
     "RESTORE DATABASE d FROM $1 WITH SYNC DURABILITY WITH ASYNC REPLICATION (OPTION resource_pool "
     "= p)"},

    // Milestones
    {"create milestone;", "CREATE MILESTONE"},
    {"CREATE MILESTONE 'before it''s out'", "CREATE MILESTONE 'before it''s out'"},
    {"CREATE MILESTONE FOR bank", "CREATE MILESTONE FOR bank"},
    {"create milestone $1 for \"My Db\"", "CREATE MILESTONE $1 FOR \"My Db\""},
    {"SHOW MILESTONES IN 'x' WITH kms = ('a', 'b')",
     "SHOW MILESTONES IN 'x' WITH OPTIONS (kms = ('a', 'b'))"},
    {"show milestones in $1", "SHOW MILESTONES IN $1"},
    {"RESTORE FROM LATEST IN 'x' AT MILESTONE 'v1' WITH detached",
     "RESTORE FROM LATEST IN 'x' AS OF SYSTEM TIME MILESTONE 'v1' WITH OPTIONS (detached)"},
    {"RESTORE DATABASE a FROM '2026/11/20-223000.00' IN 'x' as of system time milestone 'v1'",
     "RESTORE DATABASE a FROM '2026/11/20-223000.00' IN 'x' AS OF SYSTEM TIME milestone 'v1'"},
    {"RESTORE TABLE a.b.c FROM LATEST IN $1 AT MILESTONE $2",
     "RESTORE TABLE a.b.c FROM LATEST IN $1 AS OF SYSTEM TIME MILESTONE $2"},

    // WAL archives
    {"CREATE WAL ARCHIVE IN 'external://coll'", "CREATE WAL ARCHIVE IN 'external://coll'"},
    {"create wal archive in $1 with mode = 'maps'",
     "CREATE WAL ARCHIVE IN $1 WITH OPTIONS (mode = 'maps')"},
    {"DROP WAL ARCHIVE IN 's3://b/x'", "DROP WAL ARCHIVE IN 's3://b/x'"},
    {"SHOW WAL ARCHIVES", "SHOW WAL ARCHIVES"},

    // Spelling
    {"  /* a /* nested */ b */ -- c\n ShOw\tjObS ; -- d", "SHOW JOBS"},
    {"BACKUP INTO 'it''s' WITH encryption_passphrase = E'a\\\\b\\n\\x41\\u00e4'",
     "BACKUP INTO 'it''s' WITH OPTIONS (encryption_passphrase = E'a\\\\b\nAä')"},
    {"BACKUP INTO $tag$a'b$$c$tag$", "BACKUP INTO 'a''b$$c'"},
    {"BACKUP INTO U&'d!0061t\\0061' UESCAPE '!'", "BACKUP INTO E'dat\\\\0061'"},
    {"BACKUP DATABASE U&\"d\\0061t\\+000061\" INTO U&'\\D83D\\DE00'",
     "BACKUP DATABASE data INTO '😀'"},
    {"BACKUP INTO 'a'\n  'b' -- more\n 'c'", "BACKUP INTO 'abc'"},
    {"BACKUP INTO N'a'", "BACKUP INTO 'a'"},
    {"BACKUP INTO 'a\\b'", "BACKUP INTO E'a\\\\b'"},
};

}  // namespace holdfast::sql
