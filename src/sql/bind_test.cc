#include "sql/bind.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "sql/parser.h"
#include "sql/printer.h"

namespace holdfast::sql {
namespace {

std::string bound(std::string_view text, std::vector<Value> values) {
  Statement statement = parse(text);
  bind_parameters(statement, values);
  EXPECT_EQ(parameter_count(statement), 0u);
  return print(statement, Redact::Nothing);
}

SqlState state_of_failure(std::string_view text, std::vector<Value> values) {
  try {
    bound(text, std::move(values));
  } catch (const Error& error) {
    return error.state();
  }
  return sqlstate::kSuccess;
}

TEST(Bind, CountsParametersEverywhere) {
  EXPECT_EQ(parameter_count(parse("BACKUP INTO 'x'")), 0u);
  EXPECT_EQ(parameter_count(parse("BACKUP INTO $2 IN ('a', $3) WITH kms = ('k', $7)")), 7u);
  EXPECT_EQ(parameter_count(parse("PAUSE JOBS (SELECT $4 WHERE a = '$9') WITH REASON = $1")), 4u);
  EXPECT_EQ(parameter_count(parse("CREATE SCHEDULE $1 FOR BACKUP INTO 'x' RECURRING $2 FULL BACKUP "
                                  "$3 WITH SCHEDULE OPTIONS first_run = $4")),
            4u);
  EXPECT_EQ(parameter_count(parse("ALTER BACKUP $1 IN $2 ADD NEW_KMS = $3 WITH OLD_KMS = $4")), 4u);
  EXPECT_EQ(parameter_count(
                parse("ALTER BACKUP $1 IN $2 ADD NEW_PASSPHRASE = $3 WITH OLD_PASSPHRASE = $4")),
            4u);
  EXPECT_EQ(parameter_count(parse("ALTER EXTERNAL CONNECTION $1 AS $2")), 2u);
  EXPECT_EQ(parameter_count(parse("ALTER JOB $2 OWNER TO x")), 2u);
  EXPECT_EQ(
      parameter_count(parse("ALTER BACKUP SCHEDULE 1 SET LABEL $1, SET RECURRING $2, SET WITH "
                            "kms = $3, SET FULL BACKUP $4, SET INTO $5")),
      5u);
}

TEST(Bind, PutsValuesInTheirPlaces) {
  EXPECT_EQ(
      bound("BACKUP INTO $2 IN ('a', $1) WITH encryption_passphrase = $3, workers = $4",
            {"u", "latest", "it's", "3"}),
      "BACKUP INTO LATEST IN ('a', 'u') WITH OPTIONS (encryption_passphrase = 'it''s', workers "
      "= 3)");
  EXPECT_EQ(bound("SHOW JOB $1", {"42"}), "SHOW JOB '42'");
  EXPECT_EQ(bound("PAUSE JOBS (SELECT $1,'$2' WHERE a=$2) WITH REASON = $1", {"x\\", std::nullopt}),
            "PAUSE JOBS (SELECT  E'x\\\\','$2' WHERE a= NULL) WITH REASON = E'x\\\\'");
}

TEST(Bind, MakesAParameterAString) {
  Statement statement = parse("RESTORE FROM LATEST IN 'x' AS OF SYSTEM TIME $1");
  bind_parameters(statement, std::vector<Value>{"-10s"});
  const Expression& moment = *std::get<Restore>(statement).as_of;
  EXPECT_EQ(moment.kind, Expression::Kind::String);
  EXPECT_EQ(moment.value, "-10s");
}

TEST(Bind, MakesAParameterAMilestonesName) {
  Statement statement = parse("RESTORE FROM LATEST IN $1 AT MILESTONE $2");
  EXPECT_EQ(parameter_count(statement), 2U);
  bind_parameters(statement, std::vector<Value>{"x", "it's"});
  const Expression& moment = *std::get<Restore>(statement).as_of;
  EXPECT_EQ(moment.kind, Expression::Kind::Milestone);
  EXPECT_EQ(moment.value, "it's");
  EXPECT_EQ(print(statement, Redact::Nothing),
            "RESTORE FROM LATEST IN 'x' AS OF SYSTEM TIME MILESTONE 'it''s'");
  EXPECT_EQ(bound("CREATE MILESTONE $1 FOR d", {"m"}), "CREATE MILESTONE 'm' FOR d");
  EXPECT_EQ(state_of_failure("RESTORE FROM LATEST IN 'x' AT MILESTONE $1", {std::nullopt}),
            SqlState("22004"));
}

TEST(Bind, FillsSingleStoresStatements) {
  EXPECT_EQ(bound("BACKUP d TO S3 $1 CONFIG $2 CREDENTIALS $3 TAGS ($4)", {"b", "c", "k", "t"}),
            "BACKUP DATABASE d TO S3 'b' CONFIG 'c' CREDENTIALS 'k' TAGS ('t')");
  EXPECT_EQ(bound("RESTORE d FROM $1", {"b"}), "RESTORE DATABASE d FROM 'b'");
}

TEST(Bind, RefusesNullAndMissingValues) {
  EXPECT_EQ(state_of_failure("BACKUP INTO $1", {std::nullopt}), SqlState("22004"));
  EXPECT_EQ(state_of_failure("SHOW JOB $1", {std::nullopt}), SqlState("22004"));
  EXPECT_EQ(state_of_failure("BACKUP INTO $2", {"x"}), sqlstate::kProtocolViolation);
}

TEST(Bind, ChecksAnIntegerWhenItIsRead) {
  Statement statement = parse("BACKUP INTO 'x' WITH workers = $1");
  bind_parameters(statement, std::vector<Value>{"two"});
  try {
    std::get<Backup>(statement).options.integer("workers");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kInvalidParameterValue);
  }
}

}  // namespace
}  // namespace holdfast::sql
