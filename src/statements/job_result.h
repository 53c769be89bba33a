#pragma once

#include <google/protobuf/message_lite.h>

#include <string>
#include <string_view>

#include "base/stop.h"
#include "jobs/runner.h"
#include "sql/row_sink.h"
#include "sql/statement_runner.h"

namespace holdfast::statements {

/// Whether BACKUP and RESTORE answer at once or when the job has ended.
enum class Detached { No, Yes };

/// The row of a new job for the session's user. `description` and `statement` are redacted.
struct JobTexts {
  std::string_view type;
  std::string description;
  std::string statement;
};
jobs::NewJob new_job(JobTexts texts, const google::protobuf::MessageLite& specification,
                     sql::SessionContext& session);

/// Creates the job (unless the session only tries the statement out: then it does nothing) and
/// answers as BACKUP and RESTORE do: with its id at once (detached), or with
/// the outcome once it has ended. While it waits, the job's notices go to the client, and its
/// progress too if the session asked for it (SET holdfast.progress = on).
void submit_and_answer(jobs::Runner& runner, const jobs::NewJob& job, Detached detached,
                       std::string_view tag, sql::SessionContext& session, sql::RowSink& sink,
                       const Stop& stop);

/// Throws CockroachDB's "… cannot be used inside a multi-statement transaction without DETACHED
/// option" when that is so.
void require_detached_in_transaction(std::string_view statement, Detached detached,
                                     const sql::SessionContext& session);

}  // namespace holdfast::statements
