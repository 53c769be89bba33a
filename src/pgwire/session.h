#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "net/stream.h"
#include "pgwire/own_statements.h"
#include "pgwire/relay.h"
#include "pgwire/session_handle.h"
#include "pgwire/shared_loop.h"
#include "sql/split.h"
#include "sql/statement_runner.h"

namespace holdfast::pgwire {

struct SessionIdentity {
  std::string user;
  std::string database;
  bool local_administrator = false;
};

/// A session after its login: finds holdfast's own statements in what the client sends, answers
/// them, and lets everything else pass. Without a PostgreSQL connection (a local administrator
/// while PostgreSQL is down) only our own statements are answered.
class Session : public sql::SessionContext, private Passenger {
 public:
  /// `loop` passes bytes on while the session has nothing else to do; null: its own thread does.
  Session(net::Stream& client, Relay& relay, sql::StatementRunner& runner, SessionHandle& handle,
          SharedLoop* loop, SessionIdentity identity)
      : client_(client),
        relay_(relay),
        runner_(runner),
        handle_(handle),
        loop_(loop),
        identity_(std::move(identity)) {}

  /// Serves the client until it leaves. Throws SessionOver, and Error for what ends the session.
  void run();

  // sql::SessionContext
  const std::string& user() const override { return identity_.user; }
  const std::string& database() const override { return identity_.database; }
  bool local_administrator() const override { return identity_.local_administrator; }
  bool server_available() const override;
  bool in_transaction() const override;
  sql::QueryResult query(std::string_view text) override;

 private:
  /// What to do with a message of the client.
  enum class Verdict {
    Pass,       ///< goes to PostgreSQL
    Drop,       ///< skipped after an error, up to Sync
    Own,        ///< handled here
    NeedWhole,  ///< cannot be told before all of it is there
  };
  struct Piece {
    sql::StatementKind kind = sql::StatementKind::NotOurs;
    sql::TextRange range;
  };

  // session.cc: which messages are ours
  /// Waits for the client, alone or on the loop.
  void wait();
  /// On the loop's thread.
  Step on_client_readable() override;
  Step on_server_readable() override { return relay_.pass_server_now(); }

  enum class Progress {
    NeedsInput,
    NeedsThread,  ///< what comes next may wait
    Terminated,
  };
  enum class Who { OwnThread, Loop };
  /// Handles what the client has sent so far.
  Progress process_input(Who who);
  Verdict judge(char type, ByteView available, std::size_t size);
  Verdict judge_whole(const Message& message);
  Verdict judge_query(std::string_view text);
  Verdict judge_parse(const Message& message);
  void handle(const Message& message);
  void pass_on_late(const Message& message);
  std::vector<Piece> find_pieces(std::string_view text) const;

  // session_query.cc: simple query protocol
  void handle_query(std::string_view text);
  /// False after an error: the rest of the Query is skipped.
  bool run_pieces(std::string_view text, const std::vector<Piece>& pieces);
  bool run_own_piece(std::string_view statement);
  bool run_foreign_pieces(std::string_view text);
  /// Executes and answers; the errors of the statement are thrown as Error.
  void execute(std::string_view statement, std::span<const sql::Value> parameters,
               sql::RowSink& sink);
  std::string rewrite(std::string_view statement);
  /// Calls `work` with a Stop that a cancel request, the client's leaving and the daemon's end
  /// request.
  void run_stoppable(const std::function<void(const Stop&)>& work);
  void refuse_failed_transaction();
  /// For what only PostgreSQL can answer: throws Error for a local administrator, who may go on,
  /// and ends other sessions.
  void require_server();

  // session_extended.cc: extended query protocol
  void handle_extended(const Message& message);
  void handle_parse(ByteView body);
  void handle_bind(ByteView body);
  void handle_describe(ByteView body);
  void handle_execute(ByteView body);
  void handle_close(ByteView body);
  void handle_sync();
  void execute_portal(OwnPortal& portal, std::uint32_t row_limit);
  OwnPortal& find_portal(std::string_view name);
  std::shared_ptr<const OwnStatement> find_statement(std::string_view name) const;
  void fail_batch(const Error& error);

  net::Stream& client_;
  Relay& relay_;
  sql::StatementRunner& runner_;
  SessionHandle& handle_;
  SharedLoop* const loop_;
  const SessionIdentity identity_;
  OwnStatements statements_;
  OwnPortals portals_;
  std::size_t pass_left_ = 0;        ///< bytes of a message whose start has been passed on
  std::size_t drop_left_ = 0;        ///< the same for a skipped message
  std::uint64_t batch_ = 0;          ///< counts Syncs
  bool skip_to_sync_ = false;        ///< after an error of ours in the extended protocol
  bool several_statements_ = false;  ///< in the Query that runs
};

}  // namespace holdfast::pgwire
