#include "postgres/connection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "base/error.h"
#include "postgres/testing/private_instance.h"

namespace holdfast::postgres {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class ConnectionToServer : public ::testing::Test {
 protected:
  Error failure(const ConnectOptions& options) {
    try {
      Connection::open(options, Stop::never());
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "connected";
    return Error(sqlstate::kInternalError, "");
  }

  testing::PrivateInstance server_;
  Connection connection_ = server_.connect();
};

TEST_F(ConnectionToServer, PassesParametersAndNulls) {
  const QueryResult result =
      connection_.query("SELECT $1::text AS a, $2::text AS b, 42 AS c, true AS d",
                        {"it's", std::nullopt}, Stop::never());
  ASSERT_EQ(result.rows(), 1U);
  EXPECT_EQ(result.column_name(1), "b");
  EXPECT_EQ(result.value(0, 0), "it's");
  EXPECT_FALSE(result.value(0, 1));
  EXPECT_EQ(result.integer(0, 2), 42);
  EXPECT_TRUE(result.boolean(0, 3));
  EXPECT_EQ(result.command_tag(), "SELECT 1");
}

TEST_F(ConnectionToServer, GivesTheServersOwnErrorAndStaysUsable) {
  try {
    connection_.query("SELECT * FROM nowhere", Stop::never());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kUndefinedTable);
    EXPECT_EQ(error.message(), "relation \"nowhere\" does not exist");
  }
  EXPECT_EQ(connection_.query("SELECT 1", Stop::never()).integer(0, 0), 1);
}

TEST_F(ConnectionToServer, NotesALostConnection) {
  server_.execute(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
      "backend_type = 'client backend' AND pid <> pg_backend_pid()");
  try {
    connection_.query("SELECT 1", Stop::never());
    FAIL();
  } catch (const Error& error) {
    EXPECT_TRUE(error.state() == sqlstate::kAdminShutdown ||
                error.state() == sqlstate::kConnectionFailure);
  }
  EXPECT_FALSE(connection_.healthy());
}

TEST_F(ConnectionToServer, StopsAQueryWithinTwoSecondsAndCancelsItThere) {
  StopSource source;
  const auto began = std::chrono::steady_clock::now();
  std::jthread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    source.request(StopReason::Cancel);
  });
  EXPECT_THROW(connection_.query("SELECT pg_sleep(60)", source.stop()), Stopped);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(2));
  EXPECT_EQ(connection_.query("SELECT 1", Stop::never()).integer(0, 0), 1);
}

TEST_F(ConnectionToServer, SaysWhyItCouldNotConnectWithoutThePassword) {
  const std::string host = server_.socket_directory();
  const Error no_role = failure({.conninfo = "host=" + host + " user=nosuch password=s3cretpw"});
  EXPECT_EQ(no_role.state(), sqlstate::kInvalidAuthorization);
  const Error no_database =
      failure({.conninfo = "host=" + host + " user=postgres", .database = "nosuch"});
  EXPECT_EQ(no_database.state(), sqlstate::kInvalidCatalogName);
  const Error no_server = failure({.conninfo = "postgresql://u:s3cretpw@/db?host=/nowhere"});
  EXPECT_EQ(no_server.state(), sqlstate::kConnectionFailure);
  const Error malformed = failure({.conninfo = "postgresql://u:s3cretpw@[broken"});
  EXPECT_EQ(malformed.state(), sqlstate::kInvalidParameterValue);
  for (const auto* error : {&no_role, &no_database, &no_server, &malformed}) {
    EXPECT_THAT(error->message() + error->detail(), Not(HasSubstr("s3cretpw")));
  }
}

TEST_F(ConnectionToServer, HasAnEmptySearchPathByDefault) {
  Connection connection = Connection::open({.conninfo = server_.conninfo()}, Stop::never());
  EXPECT_EQ(connection.query("SHOW search_path", Stop::never()).text(0, 0), "");
  EXPECT_EQ(connection.query("SHOW application_name", Stop::never()).text(0, 0), "holdfast");
}

TEST(RedactConninfo, KeepsEverythingButPasswords) {
  EXPECT_THAT(redact_conninfo("postgresql://bob:s3cret@db:5433/bank?sslpassword=other"),
              ::testing::AllOf(HasSubstr("user=bob"), HasSubstr("host=db"), HasSubstr("port=5433"),
                               HasSubstr("dbname=bank"), HasSubstr("password=redacted"),
                               Not(HasSubstr("s3cret")), Not(HasSubstr("other"))));
  EXPECT_EQ(redact_conninfo("host=db password"), "redacted");
}

TEST(Quoting, SurvivesQuotesAndBackslashes) {
  EXPECT_EQ(quote_identifier("a\"b"), "\"a\"\"b\"");
  EXPECT_EQ(quote_literal("it's"), "'it''s'");
  EXPECT_EQ(quote_literal("a\\b"), "E'a\\\\b'");
}

}  // namespace
}  // namespace holdfast::postgres
