#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/stop.h"

namespace holdfast::postgres {

/// How to reach a server.
struct ConnectOptions {
  /// "postgresql://…" or "host=… port=…", as libpq takes it. May hold a password: never shown.
  std::string conninfo{};
  /// Another database than conninfo's. Absent: conninfo's own.
  std::optional<std::string> database{};
  /// A physical replication connection.
  bool replication = false;
  std::chrono::milliseconds timeout{10'000};
  /// Receives the server's notices, as libpq words them. Absent: they are dropped.
  std::function<void(std::string_view text)> notice = {};
  /// For a person at a prompt: nothing is sent that was not asked for, no settings are made.
  bool interactive = false;
  /// Session settings made right after connecting; not for replication connections. Timeouts of
  /// statements, locks and idle sessions are always off. The empty search path keeps objects that
  /// users made from standing in for those of pg_catalog.
  std::map<std::string, std::string> settings{{"search_path", ""}};
};

/// Values in PostgreSQL's text format.
class QueryResult {
 public:
  std::size_t rows() const { return rows_.size(); }
  std::size_t columns() const { return columns_.size(); }
  const std::string& column_name(std::size_t column) const { return columns_.at(column); }
  /// Absent for NULL.
  const std::optional<std::string>& value(std::size_t row, std::size_t column) const {
    return rows_.at(row).at(column);
  }
  /// The value, or an empty string for NULL.
  std::string text(std::size_t row, std::size_t column) const {
    return value(row, column).value_or(std::string());
  }
  std::int64_t integer(std::size_t row, std::size_t column) const;  ///< 0 for NULL
  bool boolean(std::size_t row, std::size_t column) const;          ///< false for NULL
  /// "SELECT 5"
  const std::string& command_tag() const { return command_tag_; }

 private:
  friend class Connection;
  std::vector<std::string> columns_;
  std::vector<std::vector<std::optional<std::string>>> rows_;
  std::string command_tag_;
};

using Parameters = std::vector<std::optional<std::string>>;

/// A libpq session, used by one thread at a time. Errors of the server come as Error with its
/// SQLSTATE, message, detail and hint; a lost connection as kConnectionFailure.
class Connection {
 public:
  /// Throws Error when no connection comes about within the timeout (kConnectionFailure, or the
  /// server's own SQLSTATE such as 28P01), Stopped. The message never holds a password.
  static Connection open(const ConnectOptions& options, const Stop& stop);

  Connection(Connection&&) noexcept;
  Connection& operator=(Connection&&) noexcept;
  ~Connection();

  /// Runs one statement with parameters ($1, …, text format; nullopt is NULL). Throws Stopped after
  /// cancelling it on the server when a stop is requested.
  QueryResult query(const std::string& sql, const Parameters& parameters, const Stop& stop);
  QueryResult query(const std::string& sql, const Stop& stop) { return query(sql, {}, stop); }

  /// Runs one or more statements of the simple protocol; the result of the last one. Needed for
  /// replication commands.
  QueryResult simple_query(const std::string& sql, const Stop& stop);

  /// 150018
  int server_version_num() const;
  int server_major() const { return server_version_num() / 10000; }
  /// A setting that the server reports at start ("server_version", "in_hot_standby"); absent if
  /// not.
  std::optional<std::string> parameter_status(const std::string& name) const;
  /// Whether the connection is still usable, as far as known without asking the server.
  bool healthy() const;

  /// For the other files of this module.
  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  explicit Connection(std::unique_ptr<Impl> impl);
  QueryResult run(const Stop& stop);
  std::unique_ptr<Impl> impl_;
};

/// `name` quoted as an SQL identifier (always, so that key words need no list), `text` as a
/// literal.
std::string quote_identifier(std::string_view name);
std::string quote_literal(std::string_view text);

/// What `conninfo` says, by libpq's keywords ("host", "port", "sslmode"); what it does not say is
/// absent. May hold the password. Throws kInvalidParameterValue when it is malformed.
std::map<std::string, std::string> conninfo_parameters(const std::string& conninfo);

/// What `conninfo` says, as "keyword=value …" with passwords replaced by "redacted"; "redacted"
/// alone when it cannot be read.
std::string redact_conninfo(const std::string& conninfo);

}  // namespace holdfast::postgres
