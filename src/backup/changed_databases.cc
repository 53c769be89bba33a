#include "backup/changed_databases.h"

#include "base/error.h"

namespace holdfast::backup {

namespace {

// Source: PostgreSQL src/include/access/transam.h (FirstNormalTransactionId): lower numbers stand
// for what initdb did, and for frozen rows of clusters older than PostgreSQL 9.4.
constexpr std::uint32_t kFirstNormal = 3;

std::uint64_t transaction(const std::string& text) { return std::stoull(text); }

}  // namespace

std::uint64_t oldest_transaction(postgres::Connection& connection, const Stop& stop) {
  const auto result = connection.query(
      "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text", stop);
  return transaction(result.text(0, 0));
}

bool may_be_since(std::uint32_t xmin, std::uint64_t since, std::uint64_t next) {
  if (since == 0) return true;
  if (xmin < kFirstNormal) return false;
  // Of the transactions that share xmin's 32 bits, the newest that has begun.
  const auto behind_next = static_cast<std::uint32_t>(static_cast<std::uint32_t>(next) - xmin);
  return behind_next <= next && next - behind_next >= since;
}

std::set<std::uint32_t> databases_changed_since(postgres::Connection& connection,
                                                std::uint64_t since, const Stop& stop) {
  const auto result = connection.query(
      "SELECT oid::text, xmin::text,"
      " pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text"
      " FROM pg_catalog.pg_database",
      stop);
  std::set<std::uint32_t> databases;
  for (std::size_t row = 0; row < result.rows(); ++row) {
    const auto xmin = static_cast<std::uint32_t>(transaction(result.text(row, 1)));
    if (may_be_since(xmin, since, transaction(result.text(row, 2)))) {
      databases.insert(static_cast<std::uint32_t>(transaction(result.text(row, 0))));
    }
  }
  return databases;
}

bool databases_may_be_copied(postgres::Connection& connection, std::uint64_t since,
                             const Stop& stop) {
  // Both statements lock pg_database before they copy, until they commit.
  const auto locked = connection.query(
      "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks"
      " WHERE relation = 'pg_catalog.pg_database'::pg_catalog.regclass"
      " AND mode = 'RowExclusiveLock')",
      stop);
  return locked.boolean(0, 0) || !databases_changed_since(connection, since, stop).empty();
}

postgres::Lsn server_position(postgres::Connection& connection, const Stop& stop) {
  const auto result = connection.query(
      "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()"
      " ELSE pg_catalog.pg_current_wal_insert_lsn() END",
      stop);
  const auto position = postgres::parse_lsn(result.text(0, 0));
  if (!position) throw Error(sqlstate::kInternalError, "the server does not say where its WAL is");
  return *position;
}

}  // namespace holdfast::backup
