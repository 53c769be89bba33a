// The simple query protocol, and what both protocols need to execute a statement of ours.

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/log.h"
#include "pgwire/client_watch.h"
#include "pgwire/protocol.h"
#include "pgwire/result_sink.h"
#include "pgwire/session.h"

namespace holdfast::pgwire {

void Session::handle_query(std::string_view text) {
  // As in PostgreSQL, a Query ends the unnamed statement and portal.
  statements_.erase("");
  portals_.erase("");
  const std::vector<Piece> pieces = find_pieces(text);
  several_statements_ = pieces.size() > 1;
  if (pieces.empty()) {
    write_empty(relay_.out(), backend::kEmptyQueryResponse);
  } else {
    run_pieces(text, pieces);
  }
  several_statements_ = false;
  write_ready(relay_.out(), relay_.transaction_status());
}

bool Session::run_pieces(std::string_view text, const std::vector<Piece>& pieces) {
  // PostgreSQL would make one transaction of a Query's statements. Ours are no part of a
  // transaction, so each run of PostgreSQL's statements between them is one of its own.
  for (std::size_t i = 0; i < pieces.size();) {
    const Piece& piece = pieces[i];
    if (piece.kind != sql::StatementKind::NotOurs) {
      const std::string_view statement = piece.range.of(text);
      const bool succeeded =
          piece.kind == sql::StatementKind::Ours ? run_own_piece(statement) : [&] {
            std::string rewritten;
            try {
              require_server();
              rewritten = rewrite(statement);
            } catch (const Error& error) {
              relay_.fail_transaction();
              write_error(relay_.out(), Severity::Error, error);
              return false;
            }
            return run_foreign_pieces(rewritten);
          }();
      if (!succeeded) return false;
      ++i;
      continue;
    }
    std::size_t last = i;
    while (last + 1 < pieces.size() && pieces[last + 1].kind == sql::StatementKind::NotOurs) ++last;
    const std::size_t end = pieces[last].range.offset + pieces[last].range.length;
    if (!run_foreign_pieces(text.substr(piece.range.offset, end - piece.range.offset)))
      return false;
    i = last + 1;
  }
  return true;
}

bool Session::run_own_piece(std::string_view statement) {
  try {
    refuse_failed_transaction();
    ResultSink sink(relay_, handle_, ResultSink::Columns::Describe, {});
    execute(statement, {}, sink);
    return true;
  } catch (const Error& error) {
    relay_.fail_transaction();
    write_error(relay_.out(), Severity::Error, error);
    return false;
  }
}

bool Session::run_foreign_pieces(std::string_view text) {
  try {
    require_server();
  } catch (const Error& error) {
    write_error(relay_.out(), Severity::Error, error);
    return false;
  }
  return relay_.run_query(text);
}

void Session::require_server() {
  if (relay_.has_server()) return;
  if (identity_.local_administrator) {
    throw Error(sqlstate::kCannotConnectNow, "PostgreSQL is not available in this session")
        .detail("Only statements of holdfast can be run while PostgreSQL is down.")
        .hint("Connect again once PostgreSQL runs.");
  }
  write_error(relay_.out(), Severity::Fatal,
              Error(sqlstate::kAdminShutdown,
                    "terminating connection because PostgreSQL has ended this session")
                  .hint("Connect again."));
  relay_.flush();
  throw SessionOver{};
}

void Session::refuse_failed_transaction() {
  if (relay_.transaction_status() == transaction::kFailed) {
    throw Error(sqlstate::kInFailedSqlTransaction,
                "current transaction is aborted, commands ignored until end of transaction block");
  }
}

void Session::run_stoppable(const std::function<void(const Stop&)>& work) {
  relay_.flush();
  const Stop stop = handle_.begin_statement();
  std::optional<Error> failure;
  std::optional<StopReason> stopped;
  bool client_gone = false;
  {
    const ClientWatch watch(client_.fd(), handle_);
    try {
      work(stop);
    } catch (const Error& error) {
      failure = error;
    } catch (const Stopped& reason) {
      stopped = reason.reason;
    } catch (const std::exception& error) {
      failure = Error(sqlstate::kInternalError, error.what());
    }
    client_gone = watch.client_gone();
  }
  handle_.end_statement();
  relay_.check_server();
  // A statement that ends because the daemon does is told by the session's last message.
  if (client_gone || handle_.ending()) throw SessionOver{};
  if (stopped) throw Error(sqlstate::kQueryCanceled, "canceling statement due to user request");
  if (failure) throw *failure;
}

void Session::execute(std::string_view statement, std::span<const sql::Value> parameters,
                      sql::RowSink& sink) {
  run_stoppable([&](const Stop& stop) { runner_.run(statement, parameters, *this, sink, stop); });
}

std::string Session::rewrite(std::string_view statement) {
  std::string text;
  run_stoppable([&](const Stop& stop) { text = runner_.rewrite(statement, *this, stop); });
  return text;
}

}  // namespace holdfast::pgwire
