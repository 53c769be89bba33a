#include "statements/dispatcher.h"

#include <gtest/gtest.h>

#include "statements/testing/fake_session.h"

namespace holdfast::statements {
namespace {

using testing::FakeSession;
using testing::RecordingSink;

/// Answers SHOW JOBS with one row that tells what it was asked.
class Echo final : public Handler<sql::ShowJobs> {
 public:
  void run(const sql::ShowJobs& statement, sql::SessionContext&, sql::RowSink& sink,
           const Stop& stop) override {
    stop.check();
    const std::vector<sql::Column> columns = {{"id", sql::ColumnType::Text}};
    sink.columns(columns);
    sink.row(sql::Row{statement.id ? statement.id->value : "all"});
    sink.complete("SHOW 1");
  }
};

class DispatcherTest : public ::testing::Test {
 protected:
  DispatcherTest() { dispatcher_.add<sql::ShowJobs>(std::make_unique<Echo>()); }

  void run(std::string_view text, std::vector<sql::Value> parameters = {}) {
    dispatcher_.run(text, parameters, session_, sink_, Stop::never());
  }
  Error error_of(std::string_view text, std::vector<sql::Value> parameters = {}) {
    try {
      run(text, std::move(parameters));
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "nothing was thrown";
    return Error(sqlstate::kSuccess, "");
  }

  Dispatcher dispatcher_;
  FakeSession session_;
  RecordingSink sink_;
};

TEST_F(DispatcherTest, RoutesAStatementToItsHandler) {
  run("show jobs");
  ASSERT_EQ(sink_.rows.size(), 1U);
  EXPECT_EQ(sink_.rows[0][0], "all");
  EXPECT_EQ(sink_.tag, "SHOW 1");
}

TEST_F(DispatcherTest, BindsParametersAnewEachTime) {
  EXPECT_EQ(dispatcher_.parameter_count("SHOW JOB $1"), 1U);
  run("SHOW JOB $1", {"41"});
  run("SHOW JOB $1", {"42"});
  EXPECT_EQ(sink_.rows[0][0], "41");
  EXPECT_EQ(sink_.rows[1][0], "42");
  EXPECT_EQ(error_of("SHOW JOB $1").state(), sqlstate::kProtocolViolation);
}

TEST_F(DispatcherTest, DescribesWithoutRunning) {
  const auto columns = dispatcher_.describe("SHOW JOBS");
  ASSERT_FALSE(columns.empty());
  EXPECT_EQ(columns[0].name, "job_id");
  EXPECT_TRUE(dispatcher_.describe("PAUSE JOB 1").empty());
  EXPECT_TRUE(sink_.rows.empty());
}

TEST_F(DispatcherTest, RefusesWhatHasNoHandlerByName) {
  const struct {
    const char* text;
    const char* message;
  } cases[] = {
      {"CREATE SCHEDULE FOR BACKUP INTO 'nodelocal://1/x' RECURRING '@daily'",
       "CREATE SCHEDULE is not supported yet"},
      {"ALTER BACKUP SCHEDULE 1 SET LABEL 'x'", "ALTER BACKUP SCHEDULE is not supported yet"},
      {"SHOW SCHEDULES", "SHOW SCHEDULES is not supported yet"},
      {"SHOW CREATE ALL SCHEDULES", "SHOW CREATE SCHEDULE is not supported yet"},
      {"PAUSE SCHEDULE 1", "PAUSE SCHEDULES is not supported yet"},
      {"DROP SCHEDULE 1", "DROP SCHEDULES is not supported yet"},
      {"CREATE EXTERNAL CONNECTION c AS 's3://x'",
       "CREATE EXTERNAL CONNECTION is not supported yet"},
      {"ALTER EXTERNAL CONNECTION c AS 's3://x'", "ALTER EXTERNAL CONNECTION is not supported yet"},
      {"DROP EXTERNAL CONNECTION c", "DROP EXTERNAL CONNECTION is not supported yet"},
      {"SHOW EXTERNAL CONNECTIONS", "SHOW EXTERNAL CONNECTIONS is not supported yet"},
      {"SHOW CREATE ALL EXTERNAL CONNECTIONS",
       "SHOW CREATE EXTERNAL CONNECTION is not supported yet"},
      {"CHECK EXTERNAL CONNECTION 'nodelocal://1/x'",
       "CHECK EXTERNAL CONNECTION is not supported yet"},
      {"ALTER BACKUP LATEST IN 's3://x' ADD NEW_KMS = 'a' WITH OLD_KMS = 'b'",
       "ALTER BACKUP is not supported yet"},
      {"BACKUP INTO 'nodelocal://1/x'", "BACKUP is not supported yet"},
  };
  for (const auto& [text, message] : cases) {
    const Error error = error_of(text);
    EXPECT_EQ(error.state(), sqlstate::kFeatureNotSupported) << text;
    EXPECT_EQ(error.message(), message) << text;
  }
}

TEST_F(DispatcherTest, ASyntaxErrorIsOne) {
  EXPECT_EQ(error_of("SHOW JOBS FOR").state(), sqlstate::kSyntaxError);
}

TEST_F(DispatcherTest, RewritesAShowThatIsUsedAsATable) {
  const std::string text =
      dispatcher_.rewrite("SELECT count(*) FROM [SHOW JOBS]", session_, Stop::never());
  EXPECT_EQ(text.find("SHOW"), std::string::npos) << text;
  EXPECT_NE(text.find("VALUES"), std::string::npos) << text;
  EXPECT_NE(text.find("'all'"), std::string::npos) << text;
}

TEST_F(DispatcherTest, RefusesParametersInsideAShowThatIsUsedAsATable) {
  try {
    dispatcher_.rewrite("SELECT 1 FROM [SHOW JOB $1]", session_, Stop::never());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kFeatureNotSupported);
  }
}

TEST_F(DispatcherTest, PassesTheStopOn) {
  StopSource source;
  source.request(StopReason::Cancel);
  EXPECT_THROW(dispatcher_.run("SHOW JOBS", {}, session_, sink_, source.stop()), Stopped);
}

}  // namespace
}  // namespace holdfast::statements
