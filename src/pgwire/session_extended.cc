// The extended query protocol for statements of ours.

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "pgwire/message_reader.h"
#include "pgwire/protocol.h"
#include "pgwire/result_sink.h"
#include "pgwire/session.h"
#include "pgwire/values.h"

namespace holdfast::pgwire {

namespace {

// Source: PostgreSQL src/backend/utils/errcodes.txt.
constexpr SqlState kDuplicatePreparedStatement{"42P05"};
constexpr SqlState kDuplicateCursor{"42P03"};
constexpr SqlState kInvalidCursorName{"34000"};
constexpr SqlState kInvalidSqlStatementName{"26000"};

std::vector<std::uint16_t> read_formats(MessageReader& reader) {
  std::vector<std::uint16_t> formats(reader.u16());
  for (std::uint16_t& format : formats) {
    format = reader.u16();
    if (format > kBinaryFormat) {
      throw Error(sqlstate::kInvalidParameterValue,
                  fmt::format("unsupported format code: {}", format));
    }
  }
  return formats;
}

}  // namespace

void Session::handle_extended(const Message& message) {
  try {
    switch (message.type) {
      case frontend::kParse:
        return handle_parse(message.body);
      case frontend::kBind:
        return handle_bind(message.body);
      case frontend::kDescribe:
        return handle_describe(message.body);
      case frontend::kExecute:
        return handle_execute(message.body);
      case frontend::kClose:
        return handle_close(message.body);
      case frontend::kFunctionCall:
        require_server();
        return;
      default:
        // Only without a server: Flush needs nothing more, and COPY data is ignored outside COPY
        // as PostgreSQL does.
        return;
    }
  } catch (const Error& error) {
    fail_batch(error);
  }
}

void Session::fail_batch(const Error& error) {
  relay_.fail_transaction();
  write_error(relay_.out(), Severity::Error, error);
  skip_to_sync_ = true;
}

void Session::handle_sync() {
  skip_to_sync_ = false;
  if (!relay_.has_server()) return write_ready(relay_.out(), transaction::kIdle);
  MessageWriter sync;
  write_empty(sync, frontend::kSync);
  relay_.tracker().sent(frontend::kSync);
  relay_.forward(sync.view());
}

void Session::handle_parse(ByteView body) {
  MessageReader reader(body);
  const std::string name(reader.string());
  const std::string_view text = reader.string();
  std::vector<std::uint32_t> types(reader.u16());
  for (std::uint32_t& type : types) type = reader.u32();
  reader.expect_end();

  if (!name.empty() && statements_.contains(name)) {
    throw Error(kDuplicatePreparedStatement,
                fmt::format("prepared statement \"{}\" already exists", name));
  }
  const sql::StatementKind kind = runner_.recognise(text);
  if (kind != sql::StatementKind::Ours) require_server();
  refuse_failed_transaction();
  if (kind == sql::StatementKind::Rewritten) {
    // The rows are those of the moment of the Parse: PostgreSQL gets them as part of the text.
    MessageWriter parse;
    const std::string rewritten = rewrite(text);
    parse.begin(frontend::kParse);
    parse.string(name);
    parse.string(rewritten);
    parse.u16(static_cast<std::uint16_t>(types.size()));
    for (std::uint32_t type : types) parse.u32(type);
    parse.end();
    require_server();
    statements_.erase(name);
    return relay_.forward_message(*first_message(parse.view(), kMaxMessageBytes));
  }
  auto statement = std::make_shared<OwnStatement>();
  statement->text = text;
  statement->columns = runner_.describe(text);
  statement->parameter_types = std::move(types);
  statement->parameter_types.resize(
      std::max(statement->parameter_types.size(), runner_.parameter_count(text)));
  statements_.insert_or_assign(name, std::move(statement));
  write_empty(relay_.out(), backend::kParseComplete);
}

std::shared_ptr<const OwnStatement> Session::find_statement(std::string_view name) const {
  const auto found = statements_.find(name);
  if (found != statements_.end()) return found->second;
  throw Error(kInvalidSqlStatementName,
              fmt::format("prepared statement \"{}\" does not exist", name));
}

OwnPortal& Session::find_portal(std::string_view name) {
  const auto found = portals_.find(name);
  // A portal ends with its transaction.
  const bool over = found != portals_.end() && found->second.batch != batch_ &&
                    relay_.transaction_status() == transaction::kIdle;
  if (found != portals_.end() && !over) return found->second;
  if (over) portals_.erase(found);
  throw Error(kInvalidCursorName, fmt::format("portal \"{}\" does not exist", name));
}

void Session::handle_bind(ByteView body) {
  MessageReader reader(body);
  const std::string name(reader.string());
  OwnPortal portal;
  portal.statement = find_statement(reader.string());
  portal.batch = batch_;
  const std::vector<std::uint16_t> formats = read_formats(reader);
  const std::size_t count = reader.u16();
  const std::vector<std::uint32_t>& types = portal.statement->parameter_types;
  if (count != types.size()) {
    throw Error(sqlstate::kProtocolViolation,
                fmt::format("bind message supplies {} parameters, but prepared statement requires "
                            "{}",
                            count, types.size()));
  }
  if (formats.size() > 1 && formats.size() != count) {
    throw Error(sqlstate::kProtocolViolation,
                fmt::format("bind message has {} parameter formats but {} parameters",
                            formats.size(), count));
  }
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t size = reader.u32();
    sql::Value& value = portal.parameters.emplace_back();
    if (size == 0xffff'ffff) continue;  // NULL
    const ByteView bytes = reader.bytes(size);
    value = format_of(formats, i) == kTextFormat ? std::string(as_text(bytes))
                                                 : parameter_to_text(types[i], bytes);
  }
  portal.result_formats = read_formats(reader);
  reader.expect_end();
  const std::size_t columns = portal.statement->columns.size();
  if (portal.result_formats.size() > 1 && portal.result_formats.size() != columns) {
    throw Error(sqlstate::kProtocolViolation,
                fmt::format("bind message has {} result formats but query has {} columns",
                            portal.result_formats.size(), columns));
  }
  const auto existing = portals_.find(name);
  if (!name.empty() && existing != portals_.end() && existing->second.batch == batch_)
    throw Error(kDuplicateCursor, fmt::format("cursor \"{}\" already exists", name));
  portals_.insert_or_assign(name, std::move(portal));
  write_empty(relay_.out(), backend::kBindComplete);
}

void Session::handle_describe(ByteView body) {
  MessageReader reader(body);
  const bool statement_wanted = reader.u8() == 'S';
  const std::string_view name = reader.string();
  std::shared_ptr<const OwnStatement> statement;
  std::vector<std::uint16_t> formats;
  if (statement_wanted) {
    statement = find_statement(name);
    MessageWriter& out = relay_.out();
    out.begin(backend::kParameterDescription);
    out.u16(static_cast<std::uint16_t>(statement->parameter_types.size()));
    for (std::uint32_t type : statement->parameter_types)
      out.u32(type == oid::kUnspecified || type == oid::kUnknown ? oid::kText : type);
    out.end();
  } else {
    const OwnPortal& portal = find_portal(name);
    statement = portal.statement;
    formats = portal.result_formats;
  }
  if (statement->columns.empty()) return write_empty(relay_.out(), backend::kNoData);
  write_row_description(relay_.out(), statement->columns, formats);
}

void Session::handle_execute(ByteView body) {
  MessageReader reader(body);
  const std::string_view name = reader.string();
  const std::uint32_t row_limit = reader.u32();
  reader.expect_end();
  OwnPortal& portal = find_portal(name);
  refuse_failed_transaction();
  execute_portal(portal, row_limit);
}

void Session::execute_portal(OwnPortal& portal, std::uint32_t row_limit) {
  if (!portal.executed) {
    portal.executed = true;
    if (row_limit == 0) {
      ResultSink sink(relay_, handle_, ResultSink::Columns::Omit, portal.result_formats);
      return execute(portal.statement->text, portal.parameters, sink);
    }
    ResultSink sink(relay_, handle_, portal);
    execute(portal.statement->text, portal.parameters, sink);
  }
  const std::size_t left = portal.rows.size() - portal.next_row;
  const std::size_t count = row_limit == 0 ? left : std::min<std::size_t>(left, row_limit);
  for (std::size_t i = 0; i < count; ++i)
    relay_.out().bytes(as_bytes(portal.rows[portal.next_row++]));
  // PostgreSQL too says "suspended" when exactly as many rows came as were asked for.
  if (row_limit != 0 && count == row_limit) {
    write_empty(relay_.out(), backend::kPortalSuspended);
  } else {
    write_command_complete(relay_.out(), portal.tag);
  }
}

void Session::handle_close(ByteView body) {
  MessageReader reader(body);
  const bool statement = reader.u8() == 'S';
  const std::string name(reader.string());
  if (statement) {
    statements_.erase(name);
  } else {
    portals_.erase(name);
  }
  write_empty(relay_.out(), backend::kCloseComplete);
}

}  // namespace holdfast::pgwire
