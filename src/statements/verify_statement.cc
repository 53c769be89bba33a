#include "statements/verify_statement.h"

#include <fmt/format.h>

#include <string>

#include "base/error.h"
#include "collection/collection.h"
#include "restore/job_records.h"
#include "restore_job.pb.h"
#include "sql/columns.h"
#include "sql/printer.h"
#include "statements/encryption.h"
#include "statements/find_backup.h"
#include "statements/job_result.h"
#include "statements/option_checks.h"
#include "statements/privileges.h"
#include "statements/restore_statement.h"

namespace holdfast::statements {

namespace {

std::string describe(sql::VerifyBackup statement, const std::string& subdirectory) {
  statement.from =
      sql::Subdirectory{.latest = false, .path = {.value = "/" + subdirectory, .parameter = {}}};
  return sql::print(statement, sql::Redact::Secrets);
}

}  // namespace

void VerifyStatement::run(const sql::VerifyBackup& statement, sql::SessionContext& session,
                          sql::RowSink& sink, const Stop& stop) {
  const Detached detached = statement.options.flag("detached") ? Detached::Yes : Detached::No;
  require_detached_in_transaction("VERIFY BACKUP", detached, session);
  require_administrator(session, kVerifyRight);
  restore::proto::RestoreJobSpec spec;
  CollectionPlace place =
      collection_place(statement.in, statement.options, "VERIFY BACKUP", session);
  spec.set_workers(workers_option(statement.options, restore::kMaxWorkers));
  spec.mutable_verify()->set_user(current_user(session));
  spec.mutable_verify()->set_local_administrator(session.local_administrator());
  auto store = open_place(stores_, place, spec, session);
  const FoundBackup backup =
      find_backup(*store, statement.from, hidden_layers(place, session), sink, stop);
  store = open_keys(key_guard(statement.options, stores_, session).get(), std::move(store), backup,
                    spec, stop);
  const std::string layer = choose_moment(statement.as_of, {}, *store, backup, spec, session, stop);

  const jobs::NewJob job = new_job({.type = jobs::kVerifyType,
                                    .description = describe(statement, backup.subdirectory),
                                    .statement = sql::print(statement, sql::Redact::Secrets)},
                                   spec, session);
  if (detached == Detached::Yes) {
    return submit_and_answer(runner_, job, detached, "VERIFY", session, sink, stop);
  }
  if (session.dry_run()) return;
  jobs::WaitListener listener;
  listener.notice = [&](std::string_view message) {
    sink.notice({.message = std::string(message)});
  };
  const jobs::JobId id = runner_.submit(job);
  const jobs::Outcome outcome = runner_.wait(id, stop, listener);
  restore::proto::VerifyCheckpoint done;
  if (const auto bytes = registry_.checkpoint(id)) {
    done.ParseFromArray(bytes->data(), static_cast<int>(bytes->size()));
  }
  sink.columns(sql::columns_of(statement));
  sink.row(sql::Row{fmt::format("{}", id), std::string(jobs::name_of(outcome.status)), "/" + layer,
                    fmt::format("{}", done.databases()), fmt::format("{}", done.tables()),
                    fmt::format("{}", done.indexes()), fmt::format("{}", done.unchecked()),
                    fmt::format("{}", done.bytes())});
  sink.complete("VERIFY");
}

}  // namespace holdfast::statements
