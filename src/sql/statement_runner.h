#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/stop.h"
#include "sql/row_sink.h"

namespace holdfast::sql {

/// What a statement may ask of the session that it runs in. Implemented by whoever carries the
/// session (pgwire, the console, the scheduler, the command line).
class SessionContext {
 public:
  virtual ~SessionContext() = default;
  /// The user and database that the client logged in with (not SET ROLE: ask PostgreSQL's
  /// current_user for that).
  virtual const std::string& user() const = 0;
  virtual const std::string& database() const = 0;
  /// True on holdfast's Unix socket when the peer is the daemon's own OS user or root: may do
  /// everything, and is the only one who gets in while PostgreSQL is down.
  virtual bool local_administrator() const = 0;
  /// False while PostgreSQL is down; query() then throws kCannotConnectNow.
  virtual bool server_available() const = 0;
  /// Inside BEGIN … COMMIT, or in a Query message of several statements.
  virtual bool in_transaction() const = 0;
  /// The schedule whose statement runs; absent for a client's.
  virtual std::optional<std::int64_t> schedule() const { return std::nullopt; }
  /// The statement is only tried out: all is checked that is checked before a job exists, and no
  /// job is made.
  virtual bool dry_run() const { return false; }
  /// Runs a query on the session's own PostgreSQL connection, as the session's user and inside its
  /// transaction. Throws the server's error as Error.
  virtual QueryResult query(std::string_view text) = 0;
};

/// What a single statement is to holdfast.
enum class StatementKind {
  NotOurs,   ///< goes to PostgreSQL unchanged
  Ours,      ///< run() executes it
  Rewritten  ///< a query that uses one of our SHOW statements as a row source: rewrite() gives what
             ///< PostgreSQL must run
};

/// Executes holdfast's statements. Thread-safe: sessions share one runner. Parameters are the
/// values bound to $1, $2, … in text form (empty span when there are none).
class StatementRunner {
 public:
  virtual ~StatementRunner() = default;

  /// Cheap for statements that are not ours (the first keyword decides). Never throws. Text
  /// that begins as one of ours but cannot be lexed is Ours, so that half a secret never reaches
  /// PostgreSQL's log.
  virtual StatementKind recognise(std::string_view statement) const = 0;

  /// The columns that run() will return, empty when it returns no rows. Throws syntax errors.
  virtual std::vector<Column> describe(std::string_view statement) = 0;
  /// How many parameters the statement has: the highest n of its $n.
  virtual std::size_t parameter_count(std::string_view statement) = 0;

  /// Executes one of ours. Throws Error when it fails and Stopped when `stop` was requested (the
  /// client cancelled or left).
  virtual void run(std::string_view statement, std::span<const Value> parameters,
                   SessionContext& session, RowSink& sink, const Stop& stop) = 0;

  /// For Rewritten: the text with each bracketed SHOW replaced by its rows as a VALUES list.
  /// Parameters stay in the text.
  virtual std::string rewrite(std::string_view statement, SessionContext& session,
                              const Stop& stop) = 0;
};

}  // namespace holdfast::sql
