#include "state/schema.h"

namespace holdfast::state {

namespace {

// Times are microseconds since 1970 in UTC. Everything SHOW JOBS lists stands in `jobs`; the blobs,
// which may be large, stand apart so that listing jobs does not read them.
constexpr const char* kJobs = R"sql(
CREATE TABLE settings (
  name TEXT PRIMARY KEY NOT NULL,
  value TEXT NOT NULL
) STRICT;

CREATE TABLE jobs (
  id INTEGER PRIMARY KEY NOT NULL,
  type TEXT NOT NULL,
  description TEXT NOT NULL,
  statement TEXT NOT NULL,
  user_name TEXT NOT NULL,
  status TEXT NOT NULL,
  running_status TEXT NOT NULL DEFAULT '',
  created INTEGER NOT NULL,
  finished INTEGER,
  modified INTEGER NOT NULL,
  fraction_completed REAL NOT NULL DEFAULT 0,
  -- The failure that ends (or ended) the job; set when it starts to revert.
  error_state TEXT,
  error_message TEXT,
  error_detail TEXT,
  error_hint TEXT,
  -- What the job becomes once it is reverted: canceled or failed.
  reverts_to TEXT,
  pause_reason TEXT,
  coordinator_id INTEGER,
  created_by_schedule INTEGER,
  num_runs INTEGER NOT NULL DEFAULT 0,
  result_rows INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX jobs_by_status ON jobs (status);
CREATE INDEX jobs_by_schedule ON jobs (created_by_schedule) WHERE created_by_schedule IS NOT NULL;

CREATE TABLE job_blobs (
  job_id INTEGER PRIMARY KEY NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
  specification BLOB NOT NULL,
  checkpoint BLOB
) STRICT;

CREATE TABLE job_execution_errors (
  job_id INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
  number INTEGER NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (job_id, number)
) STRICT, WITHOUT ROWID;
)sql";

// `uri` is sealed (Database::seal).
constexpr const char* kExternalConnections = R"sql(
CREATE TABLE external_connections (
  name TEXT PRIMARY KEY NOT NULL,
  uri BLOB NOT NULL,
  owner TEXT NOT NULL,
  created INTEGER NOT NULL
) STRICT;
)sql";

// `statement` is sealed (Database::seal). schedule/schedules.h tells what the columns mean.
constexpr const char* kSchedules = R"sql(
CREATE TABLE schedules (
  id INTEGER PRIMARY KEY NOT NULL,
  label TEXT NOT NULL,
  owner TEXT NOT NULL,
  database_name TEXT NOT NULL,
  created INTEGER NOT NULL,
  statement BLOB NOT NULL,
  incremental INTEGER NOT NULL,
  recurrence TEXT NOT NULL,
  time_zone TEXT NOT NULL DEFAULT '',
  on_previous_running TEXT NOT NULL,
  on_execution_failure TEXT NOT NULL,
  updates_last_backup_metric INTEGER NOT NULL DEFAULT 0,
  ignore_existing_backups INTEGER NOT NULL DEFAULT 0,
  partner INTEGER,
  unpause_partner INTEGER NOT NULL DEFAULT 0,
  paused INTEGER NOT NULL DEFAULT 0,
  next_run INTEGER,
  next_run_recurs INTEGER NOT NULL DEFAULT 1,
  state TEXT NOT NULL DEFAULT '',
  claimed INTEGER,
  claimed_after_job INTEGER NOT NULL DEFAULT 0,
  running_jobs TEXT NOT NULL DEFAULT '',
  last_run INTEGER,
  last_success INTEGER,
  successes INTEGER NOT NULL DEFAULT 0,
  failures INTEGER NOT NULL DEFAULT 0
) STRICT;
)sql";

// Backups and restores that have ended, for longer than their jobs are kept. The trigger writes the
// row in the very transaction that ends the job, so none can be missed. AUTOINCREMENT: a cleared id
// does not come back.
constexpr const char* kHistory = R"sql(
ALTER TABLE jobs ADD COLUMN result_bytes INTEGER NOT NULL DEFAULT 0;

CREATE TABLE backup_history (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
  job_id INTEGER,
  type TEXT NOT NULL,
  description TEXT NOT NULL,
  statement TEXT NOT NULL,
  user_name TEXT NOT NULL,
  status TEXT NOT NULL,
  started INTEGER NOT NULL,
  finished INTEGER NOT NULL,
  error_state TEXT,
  error_message TEXT,
  result_rows INTEGER NOT NULL DEFAULT 0,
  result_bytes INTEGER NOT NULL DEFAULT 0,
  schedule_id INTEGER,
  server_version TEXT
) STRICT;

CREATE VIEW ended_jobs AS
  SELECT id AS job_id, type, description, statement, user_name, status, created AS started,
    finished, error_state, error_message, result_rows, result_bytes,
    created_by_schedule AS schedule_id,
    (SELECT value FROM settings WHERE name = 'instance.server_version') AS server_version
  FROM jobs WHERE finished IS NOT NULL AND type IN ('BACKUP', 'RESTORE');

INSERT INTO backup_history (job_id, type, description, statement, user_name, status, started,
    finished, error_state, error_message, result_rows, result_bytes, schedule_id, server_version)
  SELECT * FROM ended_jobs ORDER BY finished;

CREATE TRIGGER jobs_leave_history AFTER UPDATE OF finished ON jobs
WHEN OLD.finished IS NULL AND NEW.finished IS NOT NULL
BEGIN
  INSERT INTO backup_history (job_id, type, description, statement, user_name, status, started,
      finished, error_state, error_message, result_rows, result_bytes, schedule_id, server_version)
    SELECT * FROM ended_jobs WHERE job_id = NEW.id;
END;
)sql";

constexpr const char* kConnectionGrants = R"sql(
CREATE TABLE external_connection_grants (
  name TEXT NOT NULL REFERENCES external_connections (name) ON DELETE CASCADE,
  role TEXT NOT NULL,
  privilege TEXT NOT NULL,
  PRIMARY KEY (name, role, privilege)
) STRICT, WITHOUT ROWID;
)sql";

constexpr const char* kScheduledRetention = R"sql(
ALTER TABLE schedules ADD COLUMN retention TEXT NOT NULL DEFAULT '';
ALTER TABLE schedules ADD COLUMN keep_fulls INTEGER NOT NULL DEFAULT 0;
)sql";

// A verification leaves its row in the history, too.
constexpr const char* kVerifications = R"sql(
DROP VIEW ended_jobs;
CREATE VIEW ended_jobs AS
  SELECT id AS job_id, type, description, statement, user_name, status, created AS started,
    finished, error_state, error_message, result_rows, result_bytes,
    created_by_schedule AS schedule_id,
    (SELECT value FROM settings WHERE name = 'instance.server_version') AS server_version
  FROM jobs WHERE finished IS NOT NULL AND type IN ('BACKUP', 'RESTORE', 'VERIFY BACKUP');
)sql";

constexpr const char* kMigrations[] = {kJobs,         kExternalConnections, kSchedules,
                                       kHistory,      kConnectionGrants,    kScheduledRetention,
                                       kVerifications};

}  // namespace

std::span<const char* const> migrations() { return kMigrations; }

}  // namespace holdfast::state
