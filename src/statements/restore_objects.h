#pragma once

#include "manifest.pb.h"
#include "restore_job.pb.h"
#include "sql/statement_runner.h"
#include "sql/statements.h"

namespace holdfast::statements {

/// RESTORE DATABASE, RESTORE TABLE and RESTORE SYSTEM USERS: checks options and privileges, and
/// finds the targets in what the backup lists, table patterns by the session's database and
/// search_path. Throws what the job would have to throw as far as it can be known here.
/// docs/statements/restore.md.
///
/// `behind`: a moment behind the backup is restored, when there may be tables that it does not
/// list: those that are named stay for the job to find.
enum class Behind { No, Yes };
restore::proto::ObjectRestoreSpec make_object_spec(const sql::Restore& statement,
                                                   const collection::proto::Manifest& manifest,
                                                   Behind behind, sql::SessionContext& session);

/// Whether the session's user may have this restored: throws kInsufficientPrivilege, and writes
/// what follows from his rights into `spec`. Asked for again whenever the job starts.
void check_object_privileges(sql::SessionContext& session, restore::proto::ObjectRestoreSpec& spec);

/// Throws kInsufficientPrivilege when the session's user may not restore things of this kind.
void require_object_right(sql::Targets::Kind kind, sql::SessionContext& session);

/// What of it can be refused before the backup is looked at.
void check_object_options(const sql::Restore& statement);

}  // namespace holdfast::statements
