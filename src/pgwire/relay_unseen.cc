// What the front door itself asks of PostgreSQL on a session's connection, unseen by the client.

#include <string>

#include "base/error.h"
#include "base/log.h"
#include "pgwire/message_reader.h"
#include "pgwire/protocol.h"
#include "pgwire/relay.h"
#include "pgwire/values.h"

namespace holdfast::pgwire {

namespace {

/// Names of our statement and portal among the session's own.
constexpr std::string_view kUnseenName = "_holdfast_unseen";

/// Fails in PostgreSQL, in any database and for any user, and says why in its log.
constexpr std::string_view kFailingQuery =
    "SELECT CAST('a statement of holdfast failed in this transaction' AS pg_catalog.int4)";

void write_close(MessageWriter& out, char kind) {
  out.begin(frontend::kClose);
  out.u8(static_cast<std::uint8_t>(kind));
  out.string(kUnseenName);
  out.end();
}

void write_parse(MessageWriter& out, std::string_view text) {
  out.begin(frontend::kParse);
  out.string(kUnseenName);
  out.string(text);
  out.u16(0);
  out.end();
}

/// The extended protocol, because a Query would drop the client's unnamed statement. Closing first
/// removes what an earlier failure left.
void write_unseen_query(MessageWriter& out, std::string_view text) {
  write_close(out, 'S');
  write_close(out, 'P');
  write_parse(out, text);
  out.begin(frontend::kBind);
  out.string(kUnseenName);
  out.string(kUnseenName);
  out.u16(0);
  out.u16(0);
  out.u16(0);
  out.end();
  out.begin(frontend::kDescribe);
  out.u8('P');
  out.string(kUnseenName);
  out.end();
  out.begin(frontend::kExecute);
  out.string(kUnseenName);
  out.u32(0);
  out.end();
  write_close(out, 'P');
  write_close(out, 'S');
}
constexpr int kCloses = 4;

std::vector<sql::Column> read_columns(ByteView body) {
  MessageReader reader(body);
  std::vector<sql::Column> columns(reader.u16());
  for (sql::Column& column : columns) {
    column.name = reader.string();
    reader.bytes(6);  // table and column number
    column.type = column_type(reader.u32());
    reader.bytes(8);  // size, modifier, format
  }
  return columns;
}

sql::Row read_row(ByteView body) {
  MessageReader reader(body);
  sql::Row row(reader.u16());
  for (sql::Value& value : row) {
    const std::uint32_t size = reader.u32();
    if (size != 0xffff'ffff) value.emplace(as_text(reader.bytes(size)));
  }
  return row;
}

Error server_is_gone() {
  return Error(sqlstate::kCannotConnectNow, "the connection to PostgreSQL was lost")
      .hint("Connect again once PostgreSQL runs.");
}

}  // namespace

bool Relay::pass_asynchronous(const Message& message) {
  switch (message.type) {
    case backend::kNotificationResponse:
    case backend::kParameterStatus:
      out_.bytes(message.whole);
      return true;
    case backend::kNoticeResponse:
      return true;
    default:
      return false;
  }
}

void Relay::read_unseen(const std::function<bool(const Message&)>& visit) {
  for (;;) {
    while (const auto message = first_message(server_input_.data(), kMaxMessageBytes)) {
      const std::size_t size = message->whole.size();
      const bool more = pass_asynchronous(*message) || visit(*message);
      server_input_.consume(size);
      if (!more) return;
    }
    if (const auto size = message_size(server_input_.data(), kMaxMessageBytes))
      server_input_.reserve(*size);
    const auto got = net::read_before(*server_, server_input_.space(), std::nullopt);
    if (!got || *got == 0) {
      drop_server();
      throw server_is_gone();
    }
    server_input_.added(*got);
  }
}

sql::QueryResult Relay::query(std::string_view text) {
  if (server_ == nullptr) throw server_is_gone();
  if (tracker_.batch_failed()) {
    throw Error(sqlstate::kInFailedSqlTransaction,
                "current transaction is aborted, commands ignored until end of transaction block");
  }
  // A Sync would end the implicit transaction of an open batch.
  const bool inside_batch = tracker_.batch_open();
  MessageWriter messages;
  write_unseen_query(messages, text);
  write_empty(messages, inside_batch ? frontend::kFlush : frontend::kSync);
  try {
    server_->write_all(messages.view());
  } catch (const Error&) {
    drop_server();
    throw server_is_gone();
  }
  sql::QueryResult result;
  std::optional<Error> error;
  int closes = 0;
  handle_.begin_query();
  read_unseen([&](const Message& message) {
    switch (message.type) {
      case backend::kRowDescription:
        result.columns = read_columns(message.body);
        return true;
      case backend::kDataRow:
        result.rows.push_back(read_row(message.body));
        return true;
      case backend::kErrorResponse:
        error = parse_error(message.body);
        if (inside_batch) tracker_.received(backend::kErrorResponse);
        return !inside_batch;
      case backend::kCloseComplete:
        return ++closes < kCloses || !inside_batch;
      case backend::kReadyForQuery:
        if (!message.body.empty()) transaction_status_ = static_cast<char>(message.body[0]);
        return false;
      default:
        return true;
    }
  });
  handle_.end_query();
  if (error) throw *error;
  return result;
}

void Relay::fail_transaction() {
  if (server_ == nullptr || tracker_.batch_failed()) return;
  const bool inside_batch = tracker_.batch_open();
  if (transaction_status_ != transaction::kOpen && !inside_batch) return;
  MessageWriter messages;
  if (inside_batch) {
    write_parse(messages, kFailingQuery);
    write_empty(messages, frontend::kFlush);
  } else {
    write_query(messages, kFailingQuery);
  }
  try {
    server_->write_all(messages.view());
    read_unseen([&](const Message& message) {
      if (message.type == backend::kErrorResponse && inside_batch) {
        tracker_.received(backend::kErrorResponse);
        return false;
      }
      if (message.type != backend::kReadyForQuery) return true;
      if (!message.body.empty()) transaction_status_ = static_cast<char>(message.body[0]);
      return false;
    });
  } catch (const Error& error) {
    // Without its connection the transaction has failed for good.
    log::info("could not fail the transaction: {}", error.message());
    if (server_ != nullptr) drop_server();
  }
}

void Relay::check_server() {
  while (server_ != nullptr) {
    std::optional<std::size_t> got;
    try {
      got = server_->try_read(server_input_.space());
    } catch (const Error& error) {
      log::info("lost the connection to PostgreSQL: {}", error.message());
      got = 0;
    }
    if (!got) return;
    if (*got == 0) {
      log::info("PostgreSQL closed the session's connection");
      return drop_server();
    }
    server_input_.added(*got);
    while (const auto message = first_message(server_input_.data(), kMaxMessageBytes)) {
      const std::size_t size = message->whole.size();
      // Only a FATAL can come unasked besides; the end of the connection follows it.
      if (!pass_asynchronous(*message)) return drop_server();
      server_input_.consume(size);
    }
  }
}

}  // namespace holdfast::pgwire
