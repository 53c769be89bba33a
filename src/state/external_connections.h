#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "state/database.h"

namespace holdfast::state {

/// A name for a storage URI, so that statements need not hold its credentials.
struct ExternalConnection {
  std::string name;
  std::string uri;    ///< with its secrets: encrypted in the file
  std::string owner;  ///< a PostgreSQL role
  Time created{};

  friend bool operator==(const ExternalConnection&, const ExternalConnection&) = default;
};

/// The external connections, in the daemon's database. Thread-safe.
class ExternalConnections {
 public:
  explicit ExternalConnections(Database& database) : database_(database) {}

  /// False, and nothing is changed, when the name is taken.
  bool create(const ExternalConnection& connection);
  /// Gives the connection another URI. False when there is no such connection.
  bool set_uri(std::string_view name, std::string_view uri);
  bool remove(std::string_view name);

  /// `privilege` is usage, update or drop; `role` may be "public". The connection exists. Doing it
  /// twice is fine.
  void grant(std::string_view name, std::string_view role, std::string_view privilege);
  void revoke(std::string_view name, std::string_view role, std::string_view privilege);
  /// The roles that have this privilege.
  std::vector<std::string> grantees(std::string_view name, std::string_view privilege) const;

  std::optional<ExternalConnection> find(std::string_view name) const;
  /// By name.
  std::vector<ExternalConnection> list() const;

 private:
  Database& database_;
};

}  // namespace holdfast::state
