#pragma once

#include <libpq-fe.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "postgres/connection.h"
#include "postgres/wait_internal.h"

namespace holdfast::postgres {

struct PgConnDeleter {
  void operator()(PGconn* connection) const { PQfinish(connection); }
};
struct PgResultDeleter {
  void operator()(PGresult* result) const { PQclear(result); }
};
using PgResult = std::unique_ptr<PGresult, PgResultDeleter>;

struct Connection::Impl {
  // Before the connection, whose end may still bring notices.
  std::function<void(std::string_view)> notice;
  std::unique_ptr<PGconn, PgConnDeleter> connection;
  PGconn* get() const { return connection.get(); }
};

/// Waits until the next result of the command that was sent is there; null after the last one.
PgResult next_result(PGconn* connection, const StopWake& wake);
/// Sends everything that libpq has buffered.
void flush_output(PGconn* connection, const StopWake& wake);
/// The Error for a failed result, or for a lost connection.
Error error_of(PGconn* connection, const PGresult* result);
/// Throws unless the result is a success (tuples, command, COPY).
void require_success(PGconn* connection, const PGresult* result);

}  // namespace holdfast::postgres
