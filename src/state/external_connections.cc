#include "state/external_connections.h"

#include <fmt/format.h>

namespace holdfast::state {

namespace {

std::string place_of(std::string_view name) {
  return fmt::format("external_connections.uri.{}", name);
}

ExternalConnection read(const Database& database, const Statement& row) {
  ExternalConnection connection{
      .name = row.text(0), .uri = {}, .owner = row.text(2), .created = row.time(3)};
  connection.uri = as_text(database.unseal(row.bytes(1), place_of(connection.name)));
  return connection;
}

}  // namespace

bool ExternalConnections::create(const ExternalConnection& connection) {
  Transaction transaction(database_);
  const std::int64_t created = transaction.execute(
      "INSERT INTO external_connections (name, uri, owner, created) VALUES (?, ?, ?, ?) "
      "ON CONFLICT (name) DO NOTHING",
      {connection.name, database_.seal(as_bytes(connection.uri), place_of(connection.name)),
       connection.owner, connection.created});
  transaction.commit();
  return created > 0;
}

bool ExternalConnections::set_uri(std::string_view name, std::string_view uri) {
  Transaction transaction(database_);
  const std::int64_t changed =
      transaction.execute("UPDATE external_connections SET uri = ? WHERE name = ?",
                          {database_.seal(as_bytes(uri), place_of(name)), name});
  transaction.commit();
  return changed > 0;
}

bool ExternalConnections::remove(std::string_view name) {
  Transaction transaction(database_);
  const std::int64_t removed =
      transaction.execute("DELETE FROM external_connections WHERE name = ?", {name});
  transaction.commit();
  return removed > 0;
}

void ExternalConnections::grant(std::string_view name, std::string_view role,
                                std::string_view privilege) {
  Transaction transaction(database_);
  transaction.execute(
      "INSERT INTO external_connection_grants (name, role, privilege) VALUES (?, ?, ?) "
      "ON CONFLICT DO NOTHING",
      {name, role, privilege});
  transaction.commit();
}

void ExternalConnections::revoke(std::string_view name, std::string_view role,
                                 std::string_view privilege) {
  Transaction transaction(database_);
  transaction.execute(
      "DELETE FROM external_connection_grants WHERE name = ? AND role = ? AND privilege = ?",
      {name, role, privilege});
  transaction.commit();
}

std::vector<std::string> ExternalConnections::grantees(std::string_view name,
                                                       std::string_view privilege) const {
  Transaction transaction(database_);
  Statement row = transaction.query(
      "SELECT role FROM external_connection_grants WHERE name = ? AND privilege = ? ORDER BY role",
      {name, privilege});
  std::vector<std::string> roles;
  while (row.step()) roles.push_back(row.text(0));
  return roles;
}

std::optional<ExternalConnection> ExternalConnections::find(std::string_view name) const {
  Transaction transaction(database_);
  Statement row = transaction.query(
      "SELECT name, uri, owner, created FROM external_connections WHERE name = ?", {name});
  if (!row.step()) return std::nullopt;
  return read(database_, row);
}

std::vector<ExternalConnection> ExternalConnections::list() const {
  Transaction transaction(database_);
  Statement row =
      transaction.query("SELECT name, uri, owner, created FROM external_connections ORDER BY name");
  std::vector<ExternalConnection> connections;
  while (row.step()) connections.push_back(read(database_, row));
  return connections;
}

}  // namespace holdfast::state
