#include "postgres/copy_stream.h"

#include <poll.h>

#include <charconv>
#include <cstring>

#include "base/error.h"
#include "postgres/connection_internal.h"

namespace holdfast::postgres {
namespace {

/// Rows are handed to the target when so much has gathered: one message for each row, as they come
/// from the source, costs both sides more.
constexpr std::size_t kMessageBytes = 64U << 10;

struct CopyMemory {
  void operator()(char* memory) const { PQfreemem(memory); }
};

void start(Connection& connection, const std::string& sql, ExecStatusType expected,
           const StopWake& wake) {
  PGconn* raw = connection.impl().get();
  if (raw == nullptr) {
    throw Error(sqlstate::kConnectionFailure, "the connection to PostgreSQL is closed");
  }
  if (PQsendQuery(raw, sql.c_str()) == 0) throw error_of(raw, nullptr);
  flush_output(raw, wake);
  const PgResult result = next_result(raw, wake);
  if (!result || PQresultStatus(result.get()) != expected) throw error_of(raw, result.get());
}

/// The rows of a finished COPY; throws what it failed with.
std::uint64_t finish(Connection& connection, const StopWake& wake) {
  PGconn* raw = connection.impl().get();
  std::uint64_t rows = 0;
  while (const PgResult result = next_result(raw, wake)) {
    require_success(raw, result.get());
    const char* count = PQcmdTuples(result.get());
    std::from_chars(count, count + std::strlen(count), rows);
  }
  return rows;
}

/// Calls `take` with every piece until the source has no more.
void receive(Connection& from, const StopWake& wake,
             const std::function<void(const char* data, int bytes)>& take) {
  PGconn* raw = from.impl().get();
  while (true) {
    char* data = nullptr;
    const int bytes = PQgetCopyData(raw, &data, 1);
    const std::unique_ptr<char, CopyMemory> memory(data);
    if (bytes > 0) {
      take(data, bytes);
    } else if (bytes == 0) {
      wait_for(PQsocket(raw), POLLIN, std::nullopt, wake);
      if (PQconsumeInput(raw) == 0) throw error_of(raw, nullptr);
    } else {
      if (bytes == -2) throw error_of(raw, nullptr);
      return;
    }
  }
}

void close(Connection& connection) { connection.impl().connection.reset(); }

}  // namespace

std::uint64_t copy_between(Connection& from, const std::string& copy_out, Connection& to,
                           const std::string& copy_in, const CopyProgress& progress,
                           const Stop& stop) {
  const StopWake wake(stop);
  try {
    start(to, copy_in, PGRES_COPY_IN, wake);
    start(from, copy_out, PGRES_COPY_OUT, wake);
    PGconn* target = to.impl().get();
    std::string gathered;
    const auto send = [&] {
      if (PQputCopyData(target, gathered.data(), static_cast<int>(gathered.size())) != 1) {
        throw error_of(target, nullptr);
      }
      flush_output(target, wake);
      stop.check();
      progress(gathered.size());
      gathered.clear();
    };
    receive(from, wake, [&](const char* data, int bytes) {
      const auto size = static_cast<std::size_t>(bytes);
      if (gathered.size() + size > kMessageBytes && !gathered.empty()) send();
      gathered.append(data, size);
    });
    // The source's own verdict comes after its data: only then may the target keep them.
    finish(from, wake);
    send();
    if (PQputCopyEnd(target, nullptr) != 1) throw error_of(target, nullptr);
    flush_output(target, wake);
    return finish(to, wake);
  } catch (const Error&) {
    // The target knows best why it stopped listening.
    PGconn* target = to.impl().get();
    std::optional<Error> better;
    if (target != nullptr && PQstatus(target) == CONNECTION_OK) {
      PQconsumeInput(target);
      if (PQisBusy(target) == 0) {
        const PgResult result(PQgetResult(target));
        if (result && PQresultStatus(result.get()) == PGRES_FATAL_ERROR) {
          better = error_of(target, result.get());
        }
      }
    }
    close(from);
    close(to);
    if (better) throw Error(*better);
    throw;
  } catch (const Stopped&) {
    close(from);
    close(to);
    throw;
  }
}

std::uint64_t copy_and_discard(Connection& from, const std::string& copy_out,
                               const CopyProgress& progress, const Stop& stop) {
  const StopWake wake(stop);
  try {
    start(from, copy_out, PGRES_COPY_OUT, wake);
    receive(from, wake,
            [&](const char*, int bytes) { progress(static_cast<std::uint64_t>(bytes)); });
    return finish(from, wake);
  } catch (const Stopped&) {
    close(from);
    throw;
  }
}

}  // namespace holdfast::postgres
