#include "postgres/connection.h"

#include <fmt/core.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

#include "postgres/connection_internal.h"

namespace holdfast::postgres {
namespace {

constexpr std::chrono::milliseconds kCancelPatience{1000};
constexpr std::string_view kRedacted = "redacted";

struct ConninfoDeleter {
  void operator()(PQconninfoOption* options) const { PQconninfoFree(options); }
};
using Conninfo = std::unique_ptr<PQconninfoOption, ConninfoDeleter>;

Conninfo parse_conninfo(const std::string& conninfo) {
  char* message = nullptr;
  Conninfo options(PQconninfoParse(conninfo.c_str(), &message));
  // libpq's message may quote a piece of the string, and with it a password: not passed on.
  PQfreemem(message);
  return options;
}

bool is_secret(std::string_view keyword) {
  return keyword == "password" || keyword == "sslpassword" || keyword == "passfile";
}

std::string trim_end(std::string text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
  return text;
}

// A failed connection attempt gives one text for everything that was tried; in verbose form the
// server's part of it is "FATAL:  28P01: password authentication failed …\nLOCATION:  …".
Error connect_error(PGconn* connection) {
  const std::string text = trim_end(PQerrorMessage(connection));
  const auto severity = text.rfind("FATAL:  ");
  constexpr std::size_t kSeverityLength = 8;
  if (severity != std::string::npos && text.size() > severity + kSeverityLength + 7 &&
      text[severity + kSeverityLength + 5] == ':') {
    std::string message = text.substr(severity + kSeverityLength + 7);
    message = message.substr(0, message.find('\n'));
    return Error(SqlState::from_server(text.substr(severity + kSeverityLength, 5)),
                 "could not connect to PostgreSQL: " + message);
  }
  std::string first = text.substr(0, text.find('\n'));
  Error error(sqlstate::kConnectionFailure, "could not connect to PostgreSQL: " + first);
  if (const auto rest = text.find('\n'); rest != std::string::npos) {
    std::string detail = text.substr(rest + 1);
    const auto start = detail.find_first_not_of(" \t\n");
    if (start != std::string::npos) error.detail(detail.substr(start));
  }
  error.retry(Retry::Safe);
  return error;
}

std::string scrub(std::string text, const PQconninfoOption* options) {
  for (const auto* option = options; option != nullptr && option->keyword != nullptr; ++option) {
    if (!is_secret(option->keyword) || option->val == nullptr || *option->val == '\0') continue;
    const std::string_view secret = option->val;
    for (auto at = text.find(secret); at != std::string::npos;
         at = text.find(secret, at + kRedacted.size())) {
      text.replace(at, secret.size(), kRedacted);
    }
  }
  return text;
}

void finish_connecting(PGconn* connection, const ConnectOptions& options, const Conninfo& parsed,
                       const StopWake& wake) {
  const Deadline deadline = deadline_after(options.timeout);
  auto state = PGRES_POLLING_WRITING;
  while (state != PGRES_POLLING_OK) {
    if (state == PGRES_POLLING_FAILED || PQsocket(connection) < 0) {
      const Error error = connect_error(connection);
      throw Error(error.state(), scrub(error.message(), parsed.get()))
          .detail(scrub(error.detail(), parsed.get()))
          .retry(error.retry_is_safe() ? Retry::Safe : Retry::No);
    }
    const short events = state == PGRES_POLLING_READING ? POLLIN : POLLOUT;
    if (!wait_for(PQsocket(connection), events, deadline, wake)) {
      throw Error(sqlstate::kConnectionFailure,
                  fmt::format("could not connect to PostgreSQL: no answer within {} seconds",
                              std::chrono::ceil<std::chrono::seconds>(options.timeout).count()))
          .retry(Retry::Safe);
    }
    state = PQconnectPoll(connection);
  }
}

void set_up_session(Connection& connection, const ConnectOptions& options, const Stop& stop) {
  std::map<std::string, std::string> settings = {{"statement_timeout", "0"},
                                                 {"lock_timeout", "0"},
                                                 {"idle_in_transaction_session_timeout", "0"},
                                                 {"datestyle", "ISO"}};
  if (connection.server_major() >= 14) settings.emplace("idle_session_timeout", "0");
  if (connection.server_major() >= 17) settings.emplace("transaction_timeout", "0");
  for (const auto& [name, value] : options.settings) settings.insert_or_assign(name, value);
  std::string sql = "SELECT ";
  Parameters parameters;
  for (const auto& [name, value] : settings) {
    sql += fmt::format("{}pg_catalog.set_config(${}, ${}, false)", parameters.empty() ? "" : ", ",
                       parameters.size() + 1, parameters.size() + 2);
    parameters.emplace_back(name);
    parameters.emplace_back(value);
  }
  connection.query(sql, parameters, stop);
}

// Asks the server to stop the running statement and waits for its end for a moment, so that the
// session can be used for cleaning up; a session that does not get there is closed.
void cancel_running(Connection::Impl& impl) {
  std::array<char, 256> message{};
  PGcancel* cancel = PQgetCancel(impl.get());
  if (cancel != nullptr) {
    PQcancel(cancel, message.data(), static_cast<int>(message.size()));
    PQfreeCancel(cancel);
  }
  const Stop never = Stop::never();
  const StopWake wake(never);
  const Deadline deadline = deadline_after(kCancelPatience);
  while (true) {
    while (!PQisBusy(impl.get())) {
      if (!PgResult(PQgetResult(impl.get()))) return;
    }
    if (!wait_for(PQsocket(impl.get()), POLLIN, deadline, wake) ||
        PQconsumeInput(impl.get()) == 0) {
      impl.connection.reset();
      return;
    }
  }
}

void require_usable(const Connection::Impl& impl) {
  if (!impl.connection) {
    throw Error(sqlstate::kConnectionFailure, "the connection to PostgreSQL is closed");
  }
}

}  // namespace

PgResult next_result(PGconn* connection, const StopWake& wake) {
  while (PQisBusy(connection)) {
    wait_for(PQsocket(connection), POLLIN, std::nullopt, wake);
    if (PQconsumeInput(connection) == 0) throw error_of(connection, nullptr);
  }
  return PgResult(PQgetResult(connection));
}

void flush_output(PGconn* connection, const StopWake& wake) {
  while (true) {
    const int left = PQflush(connection);
    if (left == 0) return;
    if (left < 0) throw error_of(connection, nullptr);
    wait_for(PQsocket(connection), POLLIN | POLLOUT, std::nullopt, wake);
    // The server may be waiting for us to read before it reads.
    if (PQconsumeInput(connection) == 0) throw error_of(connection, nullptr);
  }
}

Error error_of(PGconn* connection, const PGresult* result) {
  const char* state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : nullptr;
  if (state == nullptr) {
    std::string text = trim_end(result ? PQresultErrorMessage(result) : "");
    if (text.empty()) text = trim_end(PQerrorMessage(connection));
    Error error(sqlstate::kConnectionFailure, "lost the connection to PostgreSQL");
    error.detail(text).retry(Retry::Safe);
    return error;
  }
  const auto field = [&](int code) {
    const char* value = PQresultErrorField(result, code);
    return std::string(value ? value : "");
  };
  Error error(SqlState::from_server(state), field(PG_DIAG_MESSAGE_PRIMARY));
  if (auto detail = field(PG_DIAG_MESSAGE_DETAIL); !detail.empty()) error.detail(detail);
  if (auto hint = field(PG_DIAG_MESSAGE_HINT); !hint.empty()) error.hint(hint);
  return error;
}

void require_success(PGconn* connection, const PGresult* result) {
  switch (result ? PQresultStatus(result) : PGRES_FATAL_ERROR) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
    case PGRES_COPY_BOTH:
      return;
    default:
      throw error_of(connection, result);
  }
}

std::int64_t QueryResult::integer(std::size_t row, std::size_t column) const {
  const auto& text = value(row, column);
  if (!text) return 0;
  std::int64_t number = 0;
  const auto result = std::from_chars(text->data(), text->data() + text->size(), number);
  if (result.ec != std::errc() || result.ptr != text->data() + text->size()) {
    throw Error(
        sqlstate::kInvalidTextRepresentation,
        fmt::format("value \"{}\" of column \"{}\" is not an integer", *text, column_name(column)));
  }
  return number;
}

bool QueryResult::boolean(std::size_t row, std::size_t column) const {
  const auto& text = value(row, column);
  return text && (*text == "t" || *text == "true" || *text == "on");
}

Connection::Connection(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Connection::Connection(Connection&&) noexcept = default;
Connection& Connection::operator=(Connection&&) noexcept = default;
Connection::~Connection() = default;

Connection Connection::open(const ConnectOptions& options, const Stop& stop) {
  const Conninfo parsed = parse_conninfo(options.conninfo);
  if (!parsed) {
    throw Error(sqlstate::kInvalidParameterValue, "connection string is malformed")
        .hint("Write \"postgresql://user@host:port/database\" or \"host=… port=… user=…\".");
  }
  // dbname comes first because the string is expanded in its place; what follows overrides it.
  std::vector<const char*> keywords = {"dbname", "client_encoding", "application_name"};
  std::vector<const char*> values = {options.conninfo.c_str(), "UTF8", "holdfast"};
  if (options.database) {
    keywords.push_back("dbname");
    values.push_back(options.database->c_str());
  }
  if (options.replication) {
    keywords.push_back("replication");
    values.push_back("true");
  }
  keywords.push_back(nullptr);
  values.push_back(nullptr);

  auto impl = std::make_unique<Impl>();
  impl->connection.reset(PQconnectStartParams(keywords.data(), values.data(), 1));
  if (!impl->connection) throw Error(sqlstate::kOutOfMemory, "out of memory");
  PGconn* raw = impl->get();
  PQsetErrorVerbosity(raw, PQERRORS_VERBOSE);
  impl->notice = options.notice;
  PQsetNoticeProcessor(
      raw,
      [](void* state, const char* text) {
        const auto& notice = static_cast<Impl*>(state)->notice;
        if (notice) notice(text);
      },
      impl.get());
  if (PQstatus(raw) == CONNECTION_BAD) {
    const Error error = connect_error(raw);
    throw Error(error.state(), scrub(error.message(), parsed.get()))
        .detail(scrub(error.detail(), parsed.get()));
  }
  {
    const StopWake wake(stop);
    finish_connecting(raw, options, parsed, wake);
  }
  PQsetErrorVerbosity(raw, PQERRORS_DEFAULT);
  PQsetnonblocking(raw, 1);

  Connection connection(std::move(impl));
  if (!options.replication && !options.interactive) set_up_session(connection, options, stop);
  return connection;
}

QueryResult Connection::query(const std::string& sql, const Parameters& parameters,
                              const Stop& stop) {
  stop.check();
  require_usable(*impl_);
  std::vector<const char*> values;
  for (const auto& parameter : parameters) {
    values.push_back(parameter ? parameter->c_str() : nullptr);
  }
  if (PQsendQueryParams(impl_->get(), sql.c_str(), static_cast<int>(values.size()), nullptr,
                        values.data(), nullptr, nullptr, 0) == 0) {
    throw error_of(impl_->get(), nullptr);
  }
  return run(stop);
}

QueryResult Connection::simple_query(const std::string& sql, const Stop& stop) {
  stop.check();
  require_usable(*impl_);
  if (PQsendQuery(impl_->get(), sql.c_str()) == 0) throw error_of(impl_->get(), nullptr);
  return run(stop);
}

// Takes all results of what was sent; the last one counts, and the first failure.
QueryResult Connection::run(const Stop& stop) {
  QueryResult answer;
  std::optional<Error> failure;
  try {
    const StopWake wake(stop);
    flush_output(impl_->get(), wake);
    while (const PgResult result = next_result(impl_->get(), wake)) {
      const auto status = PQresultStatus(result.get());
      if (status == PGRES_COPY_BOTH || status == PGRES_COPY_IN || status == PGRES_COPY_OUT) {
        impl_->connection.reset();
        throw Error(sqlstate::kFeatureNotSupported, "COPY is not possible in a plain query");
      }
      if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && status != PGRES_EMPTY_QUERY) {
        if (!failure) failure = error_of(impl_->get(), result.get());
        continue;
      }
      answer = QueryResult();
      answer.command_tag_ = PQcmdStatus(result.get());
      const int columns = PQnfields(result.get());
      for (int column = 0; column < columns; ++column) {
        answer.columns_.emplace_back(PQfname(result.get(), column));
      }
      answer.rows_.resize(static_cast<std::size_t>(PQntuples(result.get())));
      for (std::size_t row = 0; row < answer.rows_.size(); ++row) {
        for (int column = 0; column < columns; ++column) {
          const int at = static_cast<int>(row);
          answer.rows_[row].push_back(
              PQgetisnull(result.get(), at, column)
                  ? std::optional<std::string>()
                  : std::string(PQgetvalue(result.get(), at, column),
                                static_cast<std::size_t>(PQgetlength(result.get(), at, column))));
        }
      }
    }
  } catch (const Stopped&) {
    cancel_running(*impl_);
    throw;
  }
  if (failure) throw *failure;
  return answer;
}

int Connection::server_version_num() const {
  return impl_->connection ? PQserverVersion(impl_->get()) : 0;
}

std::optional<std::string> Connection::parameter_status(const std::string& name) const {
  if (!impl_->connection) return std::nullopt;
  const char* value = PQparameterStatus(impl_->get(), name.c_str());
  return value ? std::optional<std::string>(value) : std::nullopt;
}

bool Connection::healthy() const {
  return impl_ && impl_->connection && PQstatus(impl_->get()) == CONNECTION_OK;
}

// Source: PostgreSQL src/backend/utils/adt/ruleutils.c (quote_identifier). All but the plainest
// names are quoted, so that no list of key words is needed.
std::string quote_identifier(std::string_view name) {
  std::string quoted = "\"";
  for (const char c : name) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string quote_literal(std::string_view text) {
  std::string quoted = text.find('\\') == std::string_view::npos ? "'" : "E'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') quoted += c;
    quoted += c;
  }
  return quoted + '\'';
}

std::map<std::string, std::string> conninfo_parameters(const std::string& conninfo) {
  const Conninfo parsed = parse_conninfo(conninfo);
  if (!parsed) throw Error(sqlstate::kInvalidParameterValue, "connection string is malformed");
  std::map<std::string, std::string> parameters;
  for (const PQconninfoOption* option = parsed.get(); option->keyword != nullptr; ++option) {
    if (option->val != nullptr) parameters[option->keyword] = option->val;
  }
  return parameters;
}

std::string redact_conninfo(const std::string& conninfo) {
  const Conninfo parsed = parse_conninfo(conninfo);
  if (!parsed) return std::string(kRedacted);
  std::string text;
  for (const auto* option = parsed.get(); option->keyword != nullptr; ++option) {
    if (option->val == nullptr || *option->val == '\0') continue;
    std::string value(is_secret(option->keyword) ? kRedacted : option->val);
    if (value.find_first_of(" '\\") != std::string::npos) {
      std::string escaped = "'";
      for (const char c : value) {
        if (c == '\'' || c == '\\') escaped += '\\';
        escaped += c;
      }
      value = escaped + "'";
    }
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", option->keyword, value);
  }
  return text;
}

}  // namespace holdfast::postgres
