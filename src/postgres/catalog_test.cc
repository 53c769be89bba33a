#include "postgres/catalog.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "postgres/backup_session.h"
#include "postgres/checks.h"
#include "postgres/control_file.h"
#include "postgres/testing/private_instance.h"

namespace holdfast::postgres {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const CatalogEntry* find(const CatalogListing& listing, ObjectKind kind, std::string_view database,
                         std::string_view name) {
  for (const auto& entry : listing.entries) {
    if (entry.kind == kind && entry.database == database && entry.name == name) return &entry;
  }
  return nullptr;
}

TEST(Catalog, ListsEveryKindOfObjectWithOwnersSizesAndGrants) {
  const testing::PrivateInstance server;
  server.execute("CREATE ROLE teller; CREATE ROLE \"Odd Name\"");
  server.execute("CREATE DATABASE bank OWNER teller");
  server.execute("CREATE DATABASE closed ALLOW_CONNECTIONS false");
  server.execute(
      "CREATE SCHEMA sales AUTHORIZATION teller; GRANT USAGE ON SCHEMA sales TO PUBLIC;"
      "CREATE TABLE sales.\"Orders\" (id serial PRIMARY KEY, v text);"
      "INSERT INTO sales.\"Orders\" (v) SELECT 'x' FROM generate_series(1, 1000);"
      "GRANT SELECT, INSERT ON sales.\"Orders\" TO teller;"
      "GRANT UPDATE ON sales.\"Orders\" TO \"Odd Name\" WITH GRANT OPTION;"
      "CREATE TABLE never_counted (a int);"
      "CREATE TABLE parts (a int) PARTITION BY RANGE (a);"
      "CREATE VIEW v AS SELECT 1 AS a; CREATE MATERIALIZED VIEW mv AS SELECT 1 AS a;"
      "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;"
      "CREATE FOREIGN TABLE ft (a int) SERVER s;"
      "CREATE TYPE mood AS ENUM ('ok'); CREATE TYPE pair AS (a int, b int);"
      "CREATE DOMAIN positive AS int CHECK (VALUE > 0);"
      "CREATE FUNCTION area(a int, b text) RETURNS int LANGUAGE sql AS 'SELECT 1';"
      "CREATE TEMP TABLE temporary (a int);",
      "bank");
  server.execute("ANALYZE sales.\"Orders\"", "bank");

  const CatalogListing listing = list_catalog({.conninfo = server.conninfo()}, Stop::never());
  EXPECT_NE(find(listing, ObjectKind::Database, "", "closed"), nullptr);
  ASSERT_EQ(listing.unlisted.size(), 1U);
  EXPECT_EQ(listing.unlisted[0].database, "closed");
  EXPECT_EQ(find(listing, ObjectKind::Database, "", "template1"), nullptr);
  const auto* bank = find(listing, ObjectKind::Database, "", "bank");
  ASSERT_NE(bank, nullptr);
  EXPECT_EQ(bank->owner, "teller");
  EXPECT_GT(bank->size_bytes, 1000000U);

  const auto* orders = find(listing, ObjectKind::Table, "bank", "Orders");
  ASSERT_NE(orders, nullptr);
  EXPECT_EQ(orders->schema, "sales");
  EXPECT_EQ(orders->owner, "postgres");
  EXPECT_EQ(orders->rows, 1000);
  EXPECT_GT(orders->size_bytes, 50000U);
  EXPECT_EQ(orders->database_oid, bank->oid);
  EXPECT_THAT(
      orders->grants,
      ElementsAre("GRANT INSERT, SELECT ON TABLE sales.\"Orders\" TO teller",
                  "GRANT UPDATE ON TABLE sales.\"Orders\" TO \"Odd Name\" WITH GRANT OPTION"));
  const auto* never_counted = find(listing, ObjectKind::Table, "bank", "never_counted");
  ASSERT_NE(never_counted, nullptr);
  EXPECT_EQ(never_counted->rows, -1);
  EXPECT_THAT(never_counted->grants, IsEmpty());

  const auto* sales = find(listing, ObjectKind::Schema, "bank", "sales");
  ASSERT_NE(sales, nullptr);
  EXPECT_THAT(sales->grants, ElementsAre("GRANT USAGE ON SCHEMA sales TO PUBLIC"));
  EXPECT_EQ(orders->schema_oid, sales->oid);
  for (const auto& [kind, name] : {std::pair{ObjectKind::Schema, "public"},
                                   {ObjectKind::Table, "parts"},
                                   {ObjectKind::View, "v"},
                                   {ObjectKind::MaterializedView, "mv"},
                                   {ObjectKind::Sequence, "Orders_id_seq"},
                                   {ObjectKind::ForeignTable, "ft"},
                                   {ObjectKind::Type, "mood"},
                                   {ObjectKind::Type, "pair"},
                                   {ObjectKind::Type, "positive"},
                                   {ObjectKind::Function, "area(integer, text)"}}) {
    EXPECT_NE(find(listing, kind, "bank", name), nullptr) << name;
  }
  EXPECT_EQ(find(listing, ObjectKind::Table, "bank", "temporary"), nullptr);
  EXPECT_EQ(find(listing, ObjectKind::Type, "bank", "v"), nullptr);
  EXPECT_EQ(find(listing, ObjectKind::Function, "bank", "now()"), nullptr);
}

TEST(Catalog, KeepsDatabasesInOrderAndNamesThoseThatAreFull) {
  const testing::PrivateInstance server;
  server.execute("CREATE ROLE teller LOGIN");
  for (const char* name : {"c", "a", "crowded", "b"}) {
    server.execute(fmt::format("CREATE DATABASE {}", name));
    server.execute(fmt::format("CREATE TABLE of_{} (id int)", name), name);
  }
  server.execute("ALTER DATABASE crowded CONNECTION LIMIT 0");
  const CatalogListing listing =
      list_catalog({.conninfo = server.conninfo() + " user=teller"}, Stop::never());
  std::vector<std::string> names;
  for (const CatalogEntry& entry : listing.entries) {
    if (entry.kind == ObjectKind::Database || entry.kind == ObjectKind::Table) {
      names.push_back(entry.name);
    }
  }
  EXPECT_THAT(names, ElementsAre("a", "of_a", "b", "of_b", "c", "of_c", "crowded", "postgres"));
  ASSERT_EQ(listing.unlisted.size(), 1U);
  EXPECT_EQ(listing.unlisted[0].database, "crowded");
  EXPECT_NE(listing.unlisted[0].reason.find("too many connections"), std::string::npos);
}

TEST(Catalog, DoesNotWaitForLockedTables) {
  const testing::PrivateInstance server;
  server.execute("CREATE DATABASE bank");
  server.execute(
      "CREATE TABLE locked (id int PRIMARY KEY, v text);"
      "INSERT INTO locked SELECT i, repeat('x', 200) FROM generate_series(1, 1000) i",
      "bank");
  server.execute("VACUUM locked", "bank");
  Connection holder = server.connect("bank");
  holder.query("BEGIN", Stop::never());
  holder.query("LOCK TABLE locked IN ACCESS EXCLUSIVE MODE", Stop::never());
  const CatalogListing listing = list_catalog({.conninfo = server.conninfo()}, Stop::never());
  const auto* locked = find(listing, ObjectKind::Table, "bank", "locked");
  ASSERT_NE(locked, nullptr);
  // 1000 rows of 200 bytes, and their index.
  EXPECT_GT(locked->size_bytes, 200000U);
  EXPECT_LT(locked->size_bytes, 400000U);
}

TEST(Checks, NameWhatTheRoleLacksAndHowToGrantIt) {
  const testing::PrivateInstance server;
  Connection owner = server.connect();
  EXPECT_THAT(check_instance(owner, server.data_directory(), Stop::never()), IsEmpty());

  server.execute("CREATE ROLE plain LOGIN");
  const auto as_role = [&](const std::string& role) {
    return Connection::open({.conninfo = server.conninfo() + " user=" + role}, Stop::never());
  };
  Connection plain = as_role("plain");
  const auto missing = check_instance(plain, server.data_directory(), Stop::never());
  ASSERT_EQ(missing.size(), 4U);
  EXPECT_EQ(missing[0].remedy, "ALTER ROLE \"plain\" REPLICATION;");
  EXPECT_EQ(missing[1].remedy, "GRANT pg_monitor TO \"plain\";");
  EXPECT_THAT(missing[2].what, HasSubstr("pg_backup_start"));
  for (const auto& thing : missing) server.execute(thing.remedy);
  EXPECT_THAT(check_instance(plain, server.data_directory(), Stop::never()), IsEmpty());

  // The least role that the statements make can take a backup.
  for (const auto& statement : backup_role_statements("keeper", 15)) server.execute(statement);
  Connection keeper = as_role("keeper");
  EXPECT_THAT(check_instance(keeper, server.data_directory(), Stop::never()), IsEmpty());
  auto session = BackupSession::start(std::move(keeper), {}, Stop::never());
  EXPECT_TRUE(session.finish(Stop::never()).stop.valid());
}

TEST(Checks, NoticeAnotherDataDirectory) {
  const testing::PrivateInstance server;
  const testing::PrivateInstance other({.start = false});
  Connection connection = server.connect();
  const auto missing = check_instance(connection, other.data_directory(), Stop::never());
  ASSERT_EQ(missing.size(), 1U);
  EXPECT_THAT(missing[0].what, HasSubstr("system identifier"));
}

}  // namespace
}  // namespace holdfast::postgres
