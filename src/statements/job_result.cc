#include "statements/job_result.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "base/error.h"
#include "jobs/status.h"
#include "statements/privileges.h"

namespace holdfast::statements {

namespace {

bool wants_progress(sql::SessionContext& session) {
  if (!session.server_available()) return false;
  sql::QueryResult result = session.query(
      "SELECT pg_catalog.current_setting('holdfast.progress', true) IN ('on', 'true', 'yes', '1')");
  return !result.rows.empty() && result.rows[0][0] == "t";
}

}  // namespace

jobs::NewJob new_job(JobTexts texts, const google::protobuf::MessageLite& specification,
                     sql::SessionContext& session) {
  Bytes bytes(specification.ByteSizeLong());
  specification.SerializeToArray(bytes.data(), static_cast<int>(bytes.size()));
  return {.type = std::string(texts.type),
          .description = std::move(texts.description),
          .statement = std::move(texts.statement),
          .user_name = current_user(session),
          .specification = std::move(bytes),
          .created_by_schedule = session.schedule()};
}

void submit_and_answer(jobs::Runner& runner, const jobs::NewJob& job, Detached detached,
                       std::string_view tag, sql::SessionContext& session, sql::RowSink& sink,
                       const Stop& stop) {
  if (session.dry_run()) return;
  if (detached == Detached::Yes) {
    jobs::JobId id = runner.submit(job);
    sink.columns(std::vector<sql::Column>{{"job_id", sql::ColumnType::Int8}});
    sink.row(sql::Row{std::to_string(id)});
    sink.complete(tag);
    return;
  }

  jobs::WaitListener listener;
  listener.notice = [&](std::string_view message) {
    sink.notice({.message = std::string(message)});
  };
  if (wants_progress(session)) {
    listener.progress = [&](double fraction, std::string_view running_status) {
      sink.notice({.severity = "INFO",
                   .message = fmt::format("{:.0f}%: {}", fraction * 100, running_status)});
    };
  }
  jobs::JobId id = runner.submit(job);
  jobs::Outcome outcome = runner.wait(id, stop, listener);
  sink.columns(std::vector<sql::Column>{{"job_id", sql::ColumnType::Int8},
                                        {"status", sql::ColumnType::Text},
                                        {"fraction_completed", sql::ColumnType::Float8},
                                        {"rows", sql::ColumnType::Int8}});
  sink.row(sql::Row{std::to_string(id), std::string(jobs::name_of(outcome.status)),
                    fmt::format("{}", outcome.fraction_completed), std::to_string(outcome.rows)});
  sink.complete(tag);
}

void require_detached_in_transaction(std::string_view statement, Detached detached,
                                     const sql::SessionContext& session) {
  if (detached == Detached::Yes || !session.in_transaction()) return;
  throw Error(
      sqlstate::kActiveSqlTransaction,
      fmt::format("{} cannot be used inside a multi-statement transaction without DETACHED option",
                  statement))
      .hint(
          "Add WITH detached; the job then runs on its own, whatever becomes of the transaction.");
}

}  // namespace holdfast::statements
