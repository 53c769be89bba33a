#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "sql/options.h"

/// One struct for each of our statements, as the parser makes them. The grammar stands above each:
/// UPPER keyword, 's' string literal or $n, e scalar expression, name identifier, [x] optional,
/// {a|b} choice, x,… comma list; uris := 's' | ('s',…); opts := WITH x,… | WITH OPTIONS (x,…).
/// Source: CockroachDB's grammar, release 25.4.
namespace holdfast::sql {

/// A scalar expression: its source text, which PostgreSQL can evaluate, and its value where it is
/// simple enough to be read without asking PostgreSQL.
struct Expression {
  enum class Kind {
    Source,     ///< anything else: `source` only
    String,     ///< 'x': `value` is the string
    Integer,    ///< 42, -42: `value` holds the digits, however many, with their sign
    Decimal,    ///< 1.5, 1e9: `value` as written
    Interval,   ///< INTERVAL 'x' or 'x'::interval: `value` is the string
    Function,   ///< f(): `value` is the function's name
    Parameter,  ///< $n: `parameter`; bind_parameters() turns it into a String
    // Of AS OF SYSTEM TIME only:
    Lsn,           ///< LSN 'x': `value` is the string
    RestorePoint,  ///< RESTORE POINT 'x': `value` is the string
    Milestone,     ///< MILESTONE 'x' or $n: `value` or `parameter`
  };

  Kind kind = Kind::Source;
  std::string source;  ///< tokens as written, comments removed
  std::string value;
  int parameter = 0;

  friend bool operator==(const Expression&, const Expression&) = default;
};

/// A query whose result is a list of ids: source text for PostgreSQL, without comments. It may use
/// our SHOW statements as row sources (row_source.h), and $n until bind_parameters() has replaced
/// them.
struct Query {
  std::string source;

  friend bool operator==(const Query&, const Query&) = default;
};

/// The full backup that a statement addresses: LATEST, or its subdirectory in the collection as
/// written. The string 'latest', in any case, is LATEST too.
struct Subdirectory {
  bool latest = true;
  Text path;  ///< empty when latest

  friend bool operator==(const Subdirectory&, const Subdirectory&) = default;
};

/// [database.][schema.]table, or with * as the last part.
struct TablePattern {
  std::vector<std::string> parts;  ///< one to three names, without the *; two at most with it
  bool wildcard = false;           ///< `parts` may be empty then: a bare *

  friend bool operator==(const TablePattern&, const TablePattern&) = default;
};

/// targets := DATABASE name,… | [TABLE] table_pattern,… | {TENANT | VIRTUAL CLUSTER} {int|name}
/// Nothing means the whole cluster; RESTORE also takes SYSTEM USERS.
struct Targets {
  enum class Kind { Cluster, Databases, Tables, SystemUsers, VirtualCluster };

  Kind kind = Kind::Cluster;
  std::vector<std::string> databases;
  std::vector<TablePattern> tables;
  std::string virtual_cluster;  ///< id or name; PostgreSQL has no such thing

  friend bool operator==(const Targets&, const Targets&) = default;
};

/// BACKUP [targets] INTO [{'subdir' | LATEST} IN] uris [AS OF SYSTEM TIME e] [opts(kBackup)]
struct Backup {
  Targets targets;
  std::optional<Subdirectory> onto;  ///< absent: a new full; else an incremental on that full
  Uris into;
  std::optional<Expression> as_of;
  Options options;

  friend bool operator==(const Backup&, const Backup&) = default;
};

/// RESTORE [targets | SYSTEM USERS] FROM {'subdir' | LATEST} IN uris
///   [AS OF SYSTEM TIME e | AT MILESTONE 's'] [opts(kRestore)]
struct Restore {
  Targets targets;
  Subdirectory from;
  Uris in;
  std::optional<Expression> as_of;
  Options options;

  friend bool operator==(const Restore&, const Restore&) = default;
};

/// VERIFY BACKUP [FROM] {'subdir' | LATEST} IN uris [AS OF SYSTEM TIME e] [opts(kVerifyBackup)],
/// an extension of ours
struct VerifyBackup {
  Subdirectory from;
  Uris in;
  std::optional<Expression> as_of;
  Options options;

  friend bool operator==(const VerifyBackup&, const VerifyBackup&) = default;
};

/// SHOW BACKUPS IN uris [NEWER THAN e] [OLDER THAN e] [opts(kShowBackups)]
struct ShowBackups {
  Uris in;
  std::optional<Expression> newer_than;
  std::optional<Expression> older_than;
  Options options;

  friend bool operator==(const ShowBackups&, const ShowBackups&) = default;
};

/// SHOW BACKUP [SCHEMAS|FILES|RANGES|VALIDATE|WINDOWS] [FROM] {'subdir'|LATEST} IN uris
/// [opts(kShowBackup)]
struct ShowBackup {
  enum class What { Objects, Schemas, Files, Ranges, Validate, Windows };

  What what = What::Objects;
  Subdirectory from;
  Uris in;
  Options options;

  friend bool operator==(const ShowBackup&, const ShowBackup&) = default;
};

/// SHOW [AUTOMATIC] JOBS | SHOW JOBS [WHEN COMPLETE] select | SHOW JOBS FOR SCHEDULE e
///   | SHOW JOBS FOR SCHEDULES select | SHOW JOB [WHEN COMPLETE] e | SHOW CHANGEFEED JOBS [select]
///   ; SHOW JOB e and SHOW JOBS select take [WITH kShowJob,…]
struct ShowJobs {
  enum class Form {
    All,
    Automatic,
    Select,        ///< `select` gives job ids
    ForSchedule,   ///< `id` is a schedule
    ForSchedules,  ///< `select` gives schedule ids
    Job,           ///< `id` is a job: the long form of the columns
    Changefeed,    ///< `select` may be absent
  };

  Form form = Form::All;
  bool when_complete = false;  ///< Select and Job: wait until these jobs have ended
  std::optional<Expression> id;
  std::optional<Query> select;
  Options options;

  friend bool operator==(const ShowJobs&, const ShowJobs&) = default;
};

/// {PAUSE|RESUME|CANCEL} {JOB e | JOBS select | JOBS FOR SCHEDULE e | JOBS FOR SCHEDULES select
///   | ALL {BACKUP|RESTORE|CHANGEFEED|IMPORT} JOBS}; PAUSE JOB e and PAUSE JOBS select take
///   [WITH REASON = 's']
struct JobControl {
  enum class Action { Pause, Resume, Cancel };
  enum class Target {
    Job,           ///< `id`
    Jobs,          ///< `select` gives job ids
    ForSchedule,   ///< `id` is a schedule
    ForSchedules,  ///< `select` gives schedule ids
    AllOfType,     ///< `type`
  };
  enum class Type { Backup, Restore, Changefeed, Import };

  Action action = Action::Pause;
  Target target = Target::Job;
  std::optional<Expression> id;
  std::optional<Query> select;
  Type type = Type::Backup;
  std::optional<Text> reason;

  friend bool operator==(const JobControl&, const JobControl&) = default;
};

/// ALTER JOB e OWNER TO role
struct AlterJobOwner {
  Expression job;
  std::string owner;

  friend bool operator==(const AlterJobOwner&, const AlterJobOwner&) = default;
};

/// What opens a backup: keys of a key management service, or a passphrase.
struct BackupKeys {
  Uris kms;
  std::optional<Text> passphrase;  ///< present exactly when `kms` is empty

  friend bool operator==(const BackupKeys&, const BackupKeys&) = default;
};

/// ALTER BACKUP [{'subdir'|LATEST} IN] 's' ADD {NEW_KMS = uris | NEW_PASSPHRASE = 's'}
///   WITH {OLD_KMS = uris | OLD_PASSPHRASE = 's'}; passphrases are an extension of ours
struct AlterBackupKeys {
  std::optional<Subdirectory> subdirectory;  ///< absent: `in` is the backup's own path
  Text in;
  BackupKeys added;
  BackupKeys old;

  friend bool operator==(const AlterBackupKeys&, const AlterBackupKeys&) = default;
};

/// FULL BACKUP {'cron' | ALWAYS}
struct FullBackup {
  bool always = false;
  Text recurrence;  ///< empty when always

  friend bool operator==(const FullBackup&, const FullBackup&) = default;
};

/// CREATE SCHEDULE [IF NOT EXISTS] [label] FOR BACKUP [targets] INTO uris [opts(kBackup)]
///   RECURRING 'cron' [FULL BACKUP {'cron' | ALWAYS}]
///   [WITH SCHEDULE OPTIONS kSchedule,… | WITH SCHEDULE OPTIONS (kSchedule,…)]
struct CreateSchedule {
  bool if_not_exists = false;
  std::optional<Text> label;  ///< identifier or string
  Targets targets;
  Uris into;
  Options options;  ///< kBackup
  Text recurring;
  std::optional<FullBackup> full_backup;
  Options schedule_options;

  friend bool operator==(const CreateSchedule&, const CreateSchedule&) = default;
};

/// ALTER BACKUP SCHEDULE int cmd,…
///   cmd := SET LABEL 's' | SET INTO uris | SET WITH kBackup | SET RECURRING 'cron'
///        | SET FULL BACKUP {'cron' | ALWAYS} | SET SCHEDULE OPTION kSchedule
///        | EXECUTE [FULL] IMMEDIATELY
struct AlterBackupSchedule {
  enum class Execute { No, Now, FullNow };

  std::int64_t id = 0;
  std::optional<Text> label;
  Uris into;        ///< empty: unchanged
  Options options;  ///< those to change; an empty string unsets
  std::optional<Text> recurring;
  std::optional<FullBackup> full_backup;
  Options schedule_options;
  Execute execute = Execute::No;

  friend bool operator==(const AlterBackupSchedule&, const AlterBackupSchedule&) = default;
};

/// SHOW [RUNNING|PAUSED] SCHEDULES [FOR {BACKUP | SQL STATISTICS | CHANGEFEED}] | SHOW SCHEDULE e
struct ShowSchedules {
  enum class State { Any, Running, Paused };
  enum class For { Any, Backup, SqlStatistics, Changefeed };

  State state = State::Any;
  For type = For::Any;
  std::optional<Expression> id;  ///< SHOW SCHEDULE e

  friend bool operator==(const ShowSchedules&, const ShowSchedules&) = default;
};

/// SHOW CREATE SCHEDULE e | SHOW CREATE ALL SCHEDULES
struct ShowCreateSchedule {
  std::optional<Expression> id;  ///< absent: all

  friend bool operator==(const ShowCreateSchedule&, const ShowCreateSchedule&) = default;
};

/// {PAUSE|RESUME|DROP|EXECUTE} {SCHEDULE e | SCHEDULES select}
struct ScheduleControl {
  enum class Action { Pause, Resume, Drop, Execute };

  Action action = Action::Pause;
  std::optional<Expression> id;  ///< exactly one of `id` and `select`
  std::optional<Query> select;   ///< gives schedule ids

  friend bool operator==(const ScheduleControl&, const ScheduleControl&) = default;
};

/// CREATE EXTERNAL CONNECTION [IF NOT EXISTS] name AS 'uri'; a name may also be written as a string
struct CreateExternalConnection {
  bool if_not_exists = false;
  Text name;
  Text uri;

  friend bool operator==(const CreateExternalConnection&,
                         const CreateExternalConnection&) = default;
};

/// ALTER EXTERNAL CONNECTION [IF EXISTS] name AS 'uri'
struct AlterExternalConnection {
  bool if_exists = false;
  Text name;
  Text uri;

  friend bool operator==(const AlterExternalConnection&, const AlterExternalConnection&) = default;
};

/// DROP EXTERNAL CONNECTION name
struct DropExternalConnection {
  Text name;

  friend bool operator==(const DropExternalConnection&, const DropExternalConnection&) = default;
};

/// SHOW EXTERNAL CONNECTIONS | SHOW EXTERNAL CONNECTION name
struct ShowExternalConnections {
  std::optional<Text> name;  ///< absent: all

  friend bool operator==(const ShowExternalConnections&, const ShowExternalConnections&) = default;
};

/// SHOW CREATE EXTERNAL CONNECTION name | SHOW CREATE ALL EXTERNAL CONNECTIONS
struct ShowCreateExternalConnections {
  std::optional<Text> name;  ///< absent: all

  friend bool operator==(const ShowCreateExternalConnections&,
                         const ShowCreateExternalConnections&) = default;
};

/// GRANT {{USAGE|UPDATE|DROP},… | ALL [PRIVILEGES]} ON EXTERNAL CONNECTION name,… TO role,…
///   | REVOKE … ON EXTERNAL CONNECTION name,… FROM role,…
struct GrantOnConnection {
  enum class Action { Grant, Revoke };

  Action action = Action::Grant;
  std::vector<std::string> privileges;  ///< "usage", "update", "drop"; ALL is all of these
  std::vector<std::string> connections;
  std::vector<std::string> roles;

  friend bool operator==(const GrantOnConnection&, const GrantOnConnection&) = default;
};

/// CHECK EXTERNAL CONNECTION 'uri' [opts(kCheckConnection)]
///   | SHOW BACKUP CONNECTION 'uri' [opts(kCheckConnection)], its spelling up to 24.3
struct CheckExternalConnection {
  Text uri;
  Options options;

  friend bool operator==(const CheckExternalConnection&, const CheckExternalConnection&) = default;
};

/// Where a statement of SingleStore's puts or finds backups:
/// place := 'path' | {S3 | GCS | AZURE} 'bucket/path'; CONFIG and CREDENTIALS are JSON objects
struct SingleStorePlace {
  enum class Kind { Path, S3, Gcs, Azure };

  Kind kind = Kind::Path;
  Text location;
  std::optional<Text> config;
  std::optional<Text> credentials;

  friend bool operator==(const SingleStorePlace&, const SingleStorePlace&) = default;
};

/// BACKUP [DATABASE] name [WITH {INIT | DIFFERENTIAL | SPLIT PARTITIONS [BY 2]}] TO place
///   [TIMEOUT int] [CONFIG 's'] [CREDENTIALS 's'] [(OPTION resource_pool = name)] [TAGS (tag,…)]
/// Source: SingleStore 9.1; its grammar, like that of what follows.
struct SingleStoreBackup {
  enum class Mode { Full, Init, Differential, SplitPartitions };

  std::string database;
  Mode mode = Mode::Full;
  SingleStorePlace place;
  std::optional<std::int64_t> timeout_ms;
  std::optional<std::string> resource_pool;
  std::vector<Text> tags;

  friend bool operator==(const SingleStoreBackup&, const SingleStoreBackup&) = default;
};

/// RESTORE [DATABASE] name [AS name] FROM place [CONFIG 's'] [CREDENTIALS 's'] [WITH FILE = int]
///   [WITH {SYNC | ASYNC} {DURABILITY | REPLICATION} …] [(OPTION resource_pool = name)]
struct SingleStoreRestore {
  std::string database;  ///< its name in the backup
  std::optional<std::string> new_name;
  SingleStorePlace place;
  std::optional<std::int64_t> file;  ///< incr_backup_id
  std::optional<bool> sync_durability;
  std::optional<bool> sync_replication;
  std::optional<std::string> resource_pool;

  friend bool operator==(const SingleStoreRestore&, const SingleStoreRestore&) = default;
};

/// CLEAR BACKUP_HISTORY [backup_id = int | SUCCESS | FAILURE]
struct ClearBackupHistory {
  enum class What { All, One, Success, Failure };

  What what = What::All;
  std::int64_t backup_id = 0;  ///< One

  friend bool operator==(const ClearBackupHistory&, const ClearBackupHistory&) = default;
};

/// information_schema.mv_backup_history | information_schema.mv_backup_status
///   | information_schema.mv_milestones
/// No statement by itself: a table of ours inside of a query (row_source.h).
struct InformationSchemaView {
  enum class View { BackupHistory, BackupStatus, Milestones };

  View view = View::BackupHistory;

  friend bool operator==(const InformationSchemaView&, const InformationSchemaView&) = default;
};

/// DELETE BACKUPS {OLDER THAN e | KEEP int FULLS | OLDER THAN e KEEP int FULLS} IN uris
///   [opts(kDeleteBackups)], an extension of ours
struct DeleteBackups {
  std::optional<Expression> older_than;
  std::optional<std::int64_t> keep_fulls;  ///< not negative; what both clauses let go is deleted
  Uris in;
  Options options;

  friend bool operator==(const DeleteBackups&, const DeleteBackups&) = default;
};

/// CREATE MILESTONE ['name'] [FOR database]
struct CreateMilestone {
  std::optional<Text> name;             ///< absent: one is made of the time
  std::optional<std::string> database;  ///< absent: the session's

  friend bool operator==(const CreateMilestone&, const CreateMilestone&) = default;
};

/// SHOW MILESTONES IN uris [opts(kShowMilestones)], an extension of ours
struct ShowMilestones {
  Uris in;
  Options options;

  friend bool operator==(const ShowMilestones&, const ShowMilestones&) = default;
};

/// CREATE WAL ARCHIVE IN 'uri' [opts(kWalArchive)], an extension of ours
struct CreateWalArchive {
  Text uri;
  Options options;

  friend bool operator==(const CreateWalArchive&, const CreateWalArchive&) = default;
};

/// DROP WAL ARCHIVE IN 'uri', an extension of ours
struct DropWalArchive {
  Text uri;

  friend bool operator==(const DropWalArchive&, const DropWalArchive&) = default;
};

/// SHOW WAL ARCHIVES, an extension of ours
struct ShowWalArchives {
  friend bool operator==(const ShowWalArchives&, const ShowWalArchives&) = default;
};

using Statement =
    std::variant<Backup, Restore, ShowBackups, ShowBackup, ShowJobs, JobControl, AlterJobOwner,
                 AlterBackupKeys, CreateSchedule, AlterBackupSchedule, ShowSchedules,
                 ShowCreateSchedule, ScheduleControl, CreateExternalConnection,
                 AlterExternalConnection, DropExternalConnection, ShowExternalConnections,
                 ShowCreateExternalConnections, CheckExternalConnection, GrantOnConnection,
                 ClearBackupHistory, InformationSchemaView, CreateWalArchive, DropWalArchive,
                 ShowWalArchives, DeleteBackups, VerifyBackup, CreateMilestone, ShowMilestones,
                 SingleStoreBackup, SingleStoreRestore>;

}  // namespace holdfast::sql
