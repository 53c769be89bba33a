#include "postgres/wal_receiver.h"

#include <fmt/core.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "base/assert.h"
#include "base/log.h"
#include "postgres/connection_internal.h"

namespace holdfast::postgres {
namespace {

// PostgreSQL's clock for replication messages. Source: src/include/datatype/timestamp.h.
constexpr std::int64_t kPostgresEpochMicros = 946'684'800'000'000;

// Source: PostgreSQL doc/src/sgml/protocol.sgml, "Streaming Replication Protocol".
constexpr char kWalData = 'w';
constexpr std::size_t kWalDataHeader = 25;  // type, start, end of WAL, time
constexpr char kKeepalive = 'k';
constexpr std::size_t kKeepaliveBytes = 18;  // type, end of WAL, time, reply wanted

std::uint64_t load_be64(const char* bytes) {
  std::uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

void append_be64(std::string& out, std::uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xFF);
}

std::int64_t postgres_now() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count() - kPostgresEpochMicros;
}

struct CopyBufferDeleter {
  void operator()(char* buffer) const { PQfreemem(buffer); }
};
using CopyBuffer = std::unique_ptr<char, CopyBufferDeleter>;

Error protocol_violation(std::string detail) {
  return Error(sqlstate::kProtocolViolation, "unexpected message on the replication connection")
      .detail(std::move(detail));
}

Lsn streamed_lsn(const std::string& text) {
  const auto lsn = parse_lsn(text);
  if (!lsn) throw protocol_violation(fmt::format("\"{}\" is no WAL position.", text));
  return *lsn;
}

// Slot names are limited to these, so they need no quoting and cannot break out of the command.
// Source: PostgreSQL src/backend/replication/slot.c (ReplicationSlotValidateName).
void require_slot_name(const std::string& name) {
  if (name.empty() || name.size() > 63 ||
      name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") != std::string::npos) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("replication slot name \"{}\" is invalid", name))
        .hint("Slot names have lower-case letters, digits and underscores only.");
  }
}

}  // namespace

// How one START_REPLICATION ended: at end_at()'s position, or because its timeline ended.
struct WalReceiver::Streamed {
  bool end_reached = false;
  TimelineId next_timeline = 0;
  Lsn next_start;
};

std::unique_ptr<WalReceiver> WalReceiver::connect(const WalReceiverOptions& options,
                                                  const Stop& stop) {
  if (!valid_wal_segment_bytes(options.wal_segment_bytes)) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("WAL segment size {} is impossible", options.wal_segment_bytes));
  }
  if (!options.slot.empty()) require_slot_name(options.slot);
  ConnectOptions connect = options.connect;
  connect.replication = true;
  std::unique_ptr<WalReceiver> receiver(new WalReceiver(Connection::open(connect, stop), options));
  const QueryResult identity = receiver->connection_.simple_query("IDENTIFY_SYSTEM", stop);
  if (identity.rows() != 1 || identity.columns() < 3) {
    throw protocol_violation("IDENTIFY_SYSTEM gave no row.");
  }
  receiver->identity_.system_identifier = std::stoull(identity.text(0, 0));
  receiver->identity_.timeline = static_cast<TimelineId>(identity.integer(0, 1));
  receiver->identity_.flushed = streamed_lsn(identity.text(0, 2));
  if (options.temporary_slot) {
    // The form without parentheses is understood by all versions.
    receiver->connection_.simple_query(
        fmt::format("CREATE_REPLICATION_SLOT {} TEMPORARY PHYSICAL RESERVE_WAL", options.slot),
        stop);
  }
  return receiver;
}

WalReceiver::WalReceiver(Connection connection, WalReceiverOptions options)
    : connection_(std::move(connection)),
      options_(std::move(options)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!wake_) throw_errno("create an eventfd");
}

WalReceiver::~WalReceiver() = default;

void WalReceiver::end_at(Lsn end) {
  end_.store(end.value);
  const std::uint64_t one = 1;
  // A full counter is readable already.
  [[maybe_unused]] const auto written = ::write(wake_.get(), &one, sizeof one);
}

void WalReceiver::run(Lsn start, TimelineId timeline, WalSink& sink, const Stop& stop) {
  Lsn position =
      segment_start(segment_of(start, options_.wal_segment_bytes), options_.wal_segment_bytes);
  received_.store(position.value);
  while (true) {
    if (timeline > 1) fetch_history(timeline, sink, stop);
    const Streamed streamed = stream(position, timeline, sink, stop);
    if (streamed.end_reached) return;
    // The new timeline's first segment begins with a copy of the old one's bytes, under its own
    // name.
    log::info("timeline {} ended at {}, following timeline {}", timeline,
              to_string(streamed.next_start), streamed.next_timeline);
    timeline = streamed.next_timeline;
    open_segment_.reset();
    position = segment_start(segment_of(streamed.next_start, options_.wal_segment_bytes),
                             options_.wal_segment_bytes);
    received_.store(position.value);
  }
}

void WalReceiver::fetch_history(TimelineId timeline, WalSink& sink, const Stop& stop) {
  const QueryResult history =
      connection_.simple_query(fmt::format("TIMELINE_HISTORY {}", timeline), stop);
  if (history.rows() != 1 || history.columns() != 2) {
    throw protocol_violation("TIMELINE_HISTORY gave no row.");
  }
  sink.timeline_history(timeline, as_bytes(*history.value(0, 1)));
}

WalReceiver::Streamed WalReceiver::stream(Lsn start, TimelineId timeline, WalSink& sink,
                                          const Stop& stop) {
  PGconn* connection = connection_.impl().get();
  const StopWake wake(stop);
  const std::string slot = options_.slot.empty() ? "" : fmt::format("SLOT {} ", options_.slot);
  const std::string command =
      fmt::format("START_REPLICATION {}PHYSICAL {} TIMELINE {}", slot, to_string(start), timeline);
  if (PQsendQuery(connection, command.c_str()) == 0) throw error_of(connection, nullptr);
  flush_output(connection, wake);
  PgResult result = next_result(connection, wake);
  require_success(connection, result.get());
  if (PQresultStatus(result.get()) == PGRES_COPY_BOTH) {
    Deadline next_status = deadline_after(options_.status_interval);
    while (true) {
      stop.check();
      const Lsn end{end_.load()};
      if (end.valid() && received() >= end) {
        // The connection is left in COPY; it is closed with this receiver, and the server ends its
        // sender.
        return {.end_reached = true, .next_timeline = 0, .next_start = {}};
      }
      char* raw = nullptr;
      const int bytes = PQgetCopyData(connection, &raw, 1);
      const CopyBuffer buffer(raw);
      if (bytes == 0) {
        if (std::chrono::steady_clock::now() >= *next_status) {
          send_status(sink, stop);
          next_status = deadline_after(options_.status_interval);
        }
        wait_for(PQsocket(connection), POLLIN, next_status, wake, wake_.get());
        std::uint64_t wakes = 0;
        [[maybe_unused]] const auto taken = ::read(wake_.get(), &wakes, sizeof wakes);
        if (PQconsumeInput(connection) == 0) throw error_of(connection, nullptr);
        continue;
      }
      if (bytes == -1) break;
      if (bytes < 0) throw error_of(connection, nullptr);
      const auto size = static_cast<std::size_t>(bytes);
      if (raw[0] == kWalData && size >= kWalDataHeader) {
        take(Lsn{load_be64(raw + 1)}, timeline,
             as_bytes({raw + kWalDataHeader, size - kWalDataHeader}), sink);
      } else if (raw[0] == kKeepalive && size >= kKeepaliveBytes) {
        if (raw[kKeepaliveBytes - 1] != 0) {
          send_status(sink, stop);
          next_status = deadline_after(options_.status_interval);
        }
      } else {
        throw protocol_violation(
            fmt::format("A message of type {} with {} bytes.", static_cast<int>(raw[0]), size));
      }
    }
    // The server ended the stream: either the timeline's end, or a failure. Our end of the COPY is
    // closed in turn. Source: doc/src/sgml/protocol.sgml (START_REPLICATION).
    result = next_result(connection, wake);
    if (result && PQresultStatus(result.get()) == PGRES_COPY_IN) {
      if (PQputCopyEnd(connection, nullptr) <= 0) throw error_of(connection, nullptr);
      flush_output(connection, wake);
      result = next_result(connection, wake);
    }
  }
  // A timeline that ended before `start` gives the same row without any COPY.
  if (!result || PQresultStatus(result.get()) != PGRES_TUPLES_OK) {
    if (result) require_success(connection, result.get());
    throw Error(sqlstate::kConnectionFailure, "PostgreSQL ended the WAL stream")
        .detail("The server is shutting down.")
        .retry(Retry::Safe);
  }
  if (PQntuples(result.get()) != 1 || PQnfields(result.get()) != 2) {
    throw protocol_violation("The end of a timeline names no next one.");
  }
  Streamed streamed;
  streamed.next_timeline = static_cast<TimelineId>(std::stoul(PQgetvalue(result.get(), 0, 0)));
  streamed.next_start = streamed_lsn(PQgetvalue(result.get(), 0, 1));
  if (streamed.next_timeline <= timeline) {
    throw protocol_violation(
        fmt::format("Timeline {} is followed by {}.", timeline, streamed.next_timeline));
  }
  while (next_result(connection, wake)) {
  }
  return streamed;
}

void WalReceiver::take(Lsn position, TimelineId timeline, ByteView bytes, WalSink& sink) {
  if (position.value != received_.load()) {
    throw protocol_violation(fmt::format("WAL of {} where {} was expected.", to_string(position),
                                         to_string(received())));
  }
  const std::uint64_t segment_bytes = options_.wal_segment_bytes;
  while (!bytes.empty()) {
    const std::uint64_t segment = segment_of(position, segment_bytes);
    const std::uint64_t offset = position.value % segment_bytes;
    if (!open_segment_) {
      HF_ASSERT(offset == 0);
      sink.begin_segment(timeline, segment);
      open_segment_ = segment;
    }
    const auto piece = bytes.first(std::min<std::uint64_t>(bytes.size(), segment_bytes - offset));
    sink.write(offset, piece);
    bytes = bytes.subspan(piece.size());
    position.value += piece.size();
    if (position.value % segment_bytes == 0) {
      sink.end_segment();
      open_segment_.reset();
    }
    received_.store(position.value);
  }
}

void WalReceiver::send_status(const WalSink& sink, const Stop& stop) {
  // A flushed position moves the slot on, but while one stands the server takes us for a standby:
  // synchronous_standby_names = '*' would let commits wait for our segments to fill, and a shutdown
  // would wait until all WAL is reported as flushed. So it is taken back at once. Source:
  // PostgreSQL src/backend/replication/walsender.c (ProcessStandbyReplyMessage, WalSndDone),
  // syncrep.c (SyncRepGetCandidateStandbys).
  if (const Lsn done = sink.done(); done > confirmed_) {
    send_positions(done, stop);
    confirmed_ = done;
  }
  send_positions(Lsn{}, stop);
  // Not waited for: while the socket is full the server cannot read either, and what it sends is
  // read by the caller's loop, which flushes again with the next status.
  if (PQflush(connection_.impl().get()) < 0) throw error_of(connection_.impl().get(), nullptr);
}

void WalReceiver::send_positions(Lsn flushed, const Stop& stop) {
  std::string message = "r";
  append_be64(message, received_.load());
  append_be64(message, flushed.value);
  append_be64(message, 0);  // nothing is replayed here
  append_be64(message, static_cast<std::uint64_t>(postgres_now()));
  message += '\0';
  PGconn* connection = connection_.impl().get();
  const StopWake wake(stop);
  while (true) {
    const int sent = PQputCopyData(connection, message.data(), static_cast<int>(message.size()));
    if (sent < 0) throw error_of(connection, nullptr);
    if (sent > 0) return;
    wait_for(PQsocket(connection), POLLOUT, std::nullopt, wake);
  }
}

void create_physical_slot(Connection& connection, const std::string& name, const Stop& stop) {
  require_slot_name(name);
  connection.query("SELECT pg_catalog.pg_create_physical_replication_slot($1, true)", {name}, stop);
}

void drop_physical_slot(Connection& connection, const std::string& name, const Stop& stop) {
  connection.query(
      "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots "
      "WHERE slot_name = $1",
      {name}, stop);
}

}  // namespace holdfast::postgres
