#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "daemon/instance.h"
#include "postgres/connection.h"
#include "sql/statement_runner.h"

namespace holdfast::daemon {

struct RoleSessionOptions {
  std::string role;
  std::string database;  ///< empty: the one of --pg-url
  std::optional<std::int64_t> schedule{};
};

/// The session of somebody who is not connected. SET ROLE makes PostgreSQL answer as that role, and
/// only holdfast's own questions are ever asked in it.
class RoleSession final : public sql::SessionContext {
 public:
  /// Throws kUndefinedObject when there is no such role (any more), and while PostgreSQL is down.
  RoleSession(Instance& instance, RoleSessionOptions options, const Stop& stop);

  const std::string& user() const override { return options_.role; }
  const std::string& database() const override { return options_.database; }
  bool local_administrator() const override { return false; }
  bool server_available() const override { return instance_.target().has_value(); }
  bool in_transaction() const override { return false; }
  std::optional<std::int64_t> schedule() const override { return options_.schedule; }
  sql::QueryResult query(std::string_view text) override;

 private:
  Instance& instance_;
  const RoleSessionOptions options_;
  const Stop stop_;
  postgres::Connection connection_;
};

}  // namespace holdfast::daemon
