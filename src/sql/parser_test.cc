#include "sql/parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "sql/printer.h"
#include "sql/recognise.h"
#include "sql/statement_samples.h"

namespace holdfast::sql {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Error failure(std::string_view text) {
  try {
    Statement statement = parse(text);
    ADD_FAILURE() << text << " parsed as " << print(statement, Redact::Nothing);
  } catch (const Error& error) {
    return error;
  }
  return Error(sqlstate::kInternalError, "no error");
}

template <typename T>
T parsed(std::string_view text) {
  return std::get<T>(parse(text));
}

class EverySample : public ::testing::TestWithParam<StatementSample> {};

TEST_P(EverySample, ParsesAndPrintsCanonically) {
  Statement statement = parse(GetParam().text);
  EXPECT_EQ(print(statement, Redact::Nothing), GetParam().printed);
}

TEST_P(EverySample, GivesTheSameStructWhenPrintedAndParsedAgain) {
  Statement statement = parse(GetParam().text);
  EXPECT_TRUE(parse(print(statement, Redact::Nothing)) == statement);
  EXPECT_NO_THROW(parse(print(statement, Redact::Secrets)));
}

TEST_P(EverySample, IsRecognisedAsOurs) {
  EXPECT_EQ(recognise(GetParam().text), StatementKind::Ours);
}

TEST_P(EverySample, FailsCleanlyWhenCutAnywhere) {
  std::string_view text = GetParam().text;
  for (std::size_t length = 0; length < text.size(); ++length) {
    try {
      parse(text.substr(0, length));
    } catch (const Error& error) {
      EXPECT_EQ(error.state(), sqlstate::kSyntaxError) << text.substr(0, length);
      EXPECT_GE(error.position(), 1) << error.message();
      EXPECT_LE(error.position(), static_cast<int>(length) + 1);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Grammar, EverySample, testing::ValuesIn(kStatementSamples));

TEST(Parser, KeepsTheKindOfSimpleExpressions) {
  using Kind = Expression::Kind;
  struct Case {
    std::string_view text;
    Kind kind;
    std::string_view value;
  };
  for (const Case& c :
       {Case{"'-10s'", Kind::String, "-10s"}, Case{"12", Kind::Integer, "12"},
        Case{"-9223372036854775808", Kind::Integer, "-9223372036854775808"},
        Case{"1.5", Kind::Decimal, "1.5"}, Case{"INTERVAL '-1h'", Kind::Interval, "-1h"},
        Case{"'-1h'::interval", Kind::Interval, "-1h"}, Case{"now()", Kind::Function, "now"},
        Case{"$2", Kind::Parameter, ""}, Case{"1 + 1", Kind::Source, ""},
        Case{"now() - '1h'", Kind::Source, ""}}) {
    auto show = parsed<ShowJobs>("SHOW JOB " + std::string(c.text));
    EXPECT_EQ(show.id->kind, c.kind) << c.text;
    EXPECT_EQ(show.id->value, c.value) << c.text;
    EXPECT_EQ(show.id->source, c.text);
  }
}

TEST(Parser, SeparatesTargetsIntoTheirParts) {
  auto backup = parsed<Backup>("BACKUP TABLE a.\"B\".c, d.*, * INTO 'x'");
  ASSERT_EQ(backup.targets.tables.size(), 3u);
  EXPECT_THAT(backup.targets.tables[0].parts, ElementsAre("a", "B", "c"));
  EXPECT_FALSE(backup.targets.tables[0].wildcard);
  EXPECT_THAT(backup.targets.tables[1].parts, ElementsAre("d"));
  EXPECT_TRUE(backup.targets.tables[1].wildcard);
  EXPECT_TRUE(backup.targets.tables[2].parts.empty());
}

TEST(Parser, AnswersForOptionsByName) {
  auto backup = parsed<Backup>(
      "BACKUP INTO 'x' WITH detached = false, revision_history, kms = ('a', 'b'), workers = 3, "
      "max_rate = 100");
  EXPECT_FALSE(backup.options.flag("detached"));
  EXPECT_NE(backup.options.find("detached"), nullptr);
  EXPECT_TRUE(backup.options.flag("revision_history"));
  EXPECT_FALSE(backup.options.flag("allow_corrupt_pages"));
  EXPECT_THAT(backup.options.uris("kms"), ElementsAre("a", "b"));
  EXPECT_EQ(backup.options.integer("workers"), 3);
  EXPECT_EQ(backup.options.text("max_rate"), "100");
  EXPECT_EQ(backup.options.text("compression"), std::nullopt);
}

TEST(Parser, PointsAtTheTokenThatIsWrong) {
  struct Case {
    std::string_view text;
    std::string_view message;
    int position;
  };
  for (const Case& c : {
           Case{"BACKUP", "syntax error at end of input", 7},
           Case{"BACKUP INTO", "syntax error at end of input", 12},
           Case{"BACKUP INTO x", "syntax error at or near \"x\"", 13},
           Case{"BACKUP DATABASE INTO 'x'", "syntax error at or near \"INTO\"", 17},
           Case{"BACKUP a. INTO 'x' y", "syntax error at or near \"'*****'\"", 16},
           Case{"BACKUP ä, from INTO 'x'", "syntax error at or near \"from\"", 11},
           Case{"BACKUP INTO 'ä' WITH nonsense", "syntax error at or near \"nonsense\"", 22},
           Case{"BACKUP INTO 'x' WITH schema_only", "syntax error at or near \"schema_only\"", 22},
           Case{"BACKUP INTO 'x' WITH \"detached\"", "syntax error at or near \"\"detached\"\"",
                22},
           Case{"BACKUP INTO 'x' WITH OPTIONS ()", "syntax error at or near \")\"", 31},
           Case{"BACKUP INTO 'x' WITH (detached)", "syntax error at or near \"(\"", 22},
           Case{"BACKUP INTO 'x' WITH workers = -1", "syntax error at or near \"-\"", 32},
           Case{"BACKUP INTO 'x' WITH skip size", "syntax error at or near \"skip\"", 22},
           Case{"BACKUP INTO 'x'; BACKUP INTO 'y'", "syntax error at or near \"BACKUP\"", 18},
           Case{"BACKUP INTO 'x' AS OF SYSTEM TIME", "syntax error at end of input", 34},
           Case{"BACKUP INTO 'x' AS OF SYSTEM TIME WITH detached",
                "syntax error at or near \"WITH\"", 35},
           Case{"BACKUP INTO 'x' AS OF SYSTEM TIME '-1s' foo", "syntax error at or near \"foo\"",
                41},
           Case{"BACKUP INTO 'x' AS OF SYSTEM TIME 1 +", "syntax error at end of input", 38},
           Case{"RESTORE FROM 'x'", "syntax error at end of input", 17},
           Case{"RESTORE FROM LATEST IN 'x' WITH detached = true", "syntax error at or near \"=\"",
                42},
           Case{"SHOW BACKUP FILES LATEST IN 'x'", "syntax error at or near \"LATEST\"", 19},
           Case{"SHOW BACKUPS IN 'x' NEWER THAN 1 NEWER THAN 2",
                "syntax error at or near \"NEWER\"", 34},
           Case{"DELETE BACKUPS IN 'x'", "syntax error at or near \"IN\"", 16},
           Case{"DELETE BACKUPS KEEP 1 FULLS KEEP 2 FULLS IN 'x'",
                "syntax error at or near \"KEEP\"", 29},
           Case{"DELETE BACKUPS KEEP -1 FULLS IN 'x'", "syntax error at or near \"-\"", 21},
           Case{"DELETE BACKUPS OLDER THAN IN 'x'", "syntax error at or near \"IN\"", 27},
           Case{"SHOW JOB 5)", "syntax error at or near \")\"", 11},
           Case{"SHOW JOB (5", "syntax error at end of input", 12},
           Case{"SHOW JOB 5, 6", "syntax error at or near \",\"", 11},
           Case{"SHOW JOBS UPDATE t", "syntax error at or near \"UPDATE\"", 11},
           Case{"RESUME JOB 5 WITH REASON = 'x'", "syntax error at or near \"WITH\"", 14},
           Case{"PAUSE ALL TTL JOBS", "syntax error at or near \"TTL\"", 11},
           Case{"ALTER BACKUP SCHEDULE $1 SET LABEL 'x'", "syntax error at or near \"$1\"", 23},
           Case{"ALTER BACKUP SCHEDULE 99999999999999999999 SET LABEL 'x'",
                "syntax error at or near \"99999999999999999999\"", 23},
           Case{"CREATE SCHEDULE FOR BACKUP INTO 'x' WITH detached", "RECURRING clause required",
                50},
           Case{"CREATE SCHEDULE FOR BACKUP INTO 'x' FULL BACKUP ALWAYS",
                "RECURRING clause required", 37},
           Case{"BACKUP INTO 'x", "unterminated quoted string", 13},
           Case{"BACKUP INTO U&'\\00'", "invalid Unicode escape", 13},
           Case{"BACKUP INTO U&'\\D83D'", "invalid Unicode escape", 13},
           Case{"SELECT 1", "syntax error at or near \"SELECT\"", 1},
           Case{"", "syntax error at end of input", 1},
           Case{"BACKUP INTO $0", "syntax error at or near \"$0\"", 13},
           Case{"BACKUP INTO $99999999999", "syntax error at or near \"$99999999999\"", 13},
       }) {
    Error error = failure(c.text);
    EXPECT_EQ(error.state(), sqlstate::kSyntaxError) << c.text;
    EXPECT_EQ(error.message(), c.message) << c.text;
    EXPECT_EQ(error.position(), c.position) << c.text;
  }
}

TEST(Parser, RefusesOptionsGivenTwiceOrTogether) {
  struct Case {
    std::string_view options;
    std::string_view message;
  };
  for (const Case& c : {
           Case{"revision_history, revision_history",
                "revision_history option specified multiple times"},
           Case{"encryption_passphrase = 'a', encryption_passphrase = 'b'",
                "encryption_passphrase specified multiple times"},
           Case{"kms = 'a', kms = 'b'", "kms specified multiple times"},
           Case{"detached, detached = false", "detached option specified multiple times"},
           Case{"incremental_location = 'a', incremental_location = 'a'",
                "incremental_location option specified multiple times"},
           Case{"execution locality = 'a', execution locality = 'a'",
                "execution locality option specified multiple times"},
           Case{"kms = 'a', encryption_passphrase = 'b'",
                "cannot have both encryption_passphrase and kms option set"},
           Case{"encryption_passphrase = 'b', kms = 'a'",
                "cannot have both encryption_passphrase and kms option set"},
       }) {
    EXPECT_EQ(failure("BACKUP INTO 'x' WITH " + std::string(c.options)).message(), c.message);
  }
  EXPECT_EQ(failure("ALTER BACKUP SCHEDULE 1 SET RECURRING 'a', SET RECURRING 'b'").message(),
            "can specify SET RECURRING at most once");
}

TEST(Parser, NeverQuotesAPassphraseInAnError) {
  for (std::string_view text : {
           "BACKUP INTO 'x' WITH encryption_passphrase 'hunter2'",
           "BACKUP INTO 'x' WITH encryption_passphrase = 'a' 'hunter2'",
           "BACKUP INTO 'x' WITH encryption_passphrase = \"hunter2\"",
           "BACKUP INTO 'x' WITH encryption_passphrase = hunter2",
           "BACKUP INTO 'x' WITH encryption_passphrase hunter2",
           "BACKUP INTO 'x' WITH encryption_passphrase = 'hunter2",
           "BACKUP INTO 'x' WITH encryption_passphrase = $$hunter2",
           "BACKUP INTO 'x' WITH encryption_passphrase = E'hunter2\\uZ'",
           "BACKUP INTO 'x' AS OF SYSTEM TIME now() 'hunter2'",
           "BACKUP DATABASE d TO S3 'x' CREDENTIALS \"hunter2\"",
           "BACKUP DATABASE d TO S3 'x' CREDENTIALS hunter2",
           "BACKUP DATABASE d TO S3 'x' CREDENTIALS '{}' 'hunter2'",
           "RESTORE DATABASE d FROM S3 'x' CONFIG \"hunter2\"",
       }) {
    EXPECT_THAT(failure(text).message(), Not(HasSubstr("hunter2"))) << text;
  }
}

TEST(Parser, RefusesAZeroByte) {
  EXPECT_EQ(failure(std::string_view("SHOW JOBS\0x", 11)).position(), 10);
}

TEST(Parser, TellsTheTwoGrammarsOfBackupAndRestoreApart) {
  using Kind = SingleStorePlace::Kind;
  const auto is = []<typename Form>(std::string_view text, const Form&) {
    return std::holds_alternative<Form>(parse(text));
  };
  for (const std::string_view text :
       {"BACKUP DATABASE d INTO 'x'", "BACKUP d INTO 'x'", "BACKUP TABLE d INTO 'x' IN 'y'"}) {
    EXPECT_TRUE(is(text, Backup{})) << text;
  }
  for (const std::string_view text :
       {"RESTORE DATABASE d FROM 'x' IN 'y'", "RESTORE d FROM LATEST IN 'y'",
        "RESTORE DATABASE d FROM $1 IN $2", "RESTORE FROM 'x' IN 'y'"}) {
    EXPECT_TRUE(is(text, Restore{})) << text;
  }
  EXPECT_EQ(std::get<SingleStoreBackup>(parse("BACKUP d TO AZURE 'x'")).place.kind, Kind::Azure);
  EXPECT_EQ(std::get<SingleStoreBackup>(parse("BACKUP d TO 's3'")).place.kind, Kind::Path);
  EXPECT_EQ(std::get<SingleStoreRestore>(parse("RESTORE d FROM GCS 'x'")).place.kind, Kind::Gcs);
  for (const std::string_view text :
       {"BACKUP TO 'x'",
        "BACKUP DATABASE a, b TO 'x'",
        "BACKUP TABLE t TO 'x'",
        "BACKUP a.b TO 'x'",
        "BACKUP * TO 'x'",
        "BACKUP WITH INIT TO 'x'",
        "BACKUP DATABASE d WITH INIT INTO 'x'",
        "BACKUP DATABASE d TO x",
        "BACKUP DATABASE d TO 'x' CONFIG '{}' TIMEOUT 5",
        "BACKUP DATABASE d WITH SPLIT PARTITIONS BY 3 TO 'x'",
        "BACKUP DATABASE d TO 'x' TAGS ()",
        "BACKUP DATABASE d TO 'x' TIMEOUT -1",
        "RESTORE FROM 'x'",
        "RESTORE TABLE t FROM 'x'",
        "RESTORE DATABASE a, b FROM 'x'",
        "RESTORE DATABASE d FROM LATEST",
        "RESTORE DATABASE d FROM 'x' WITH FILE",
        "RESTORE DATABASE d AS e FROM 'x' IN 'y'",
        "RESTORE DATABASE d FROM 'x' WITH FILE = 1 WITH FILE = 2",
        "RESTORE DATABASE d FROM 'x' WITH",
        "RESTORE DATABASE d FROM 'x' WITH SYNC DURABILITY WITH ASYNC DURABILITY",
        "RESTORE SYSTEM USERS FROM 'x'"}) {
    EXPECT_EQ(failure(text).state(), sqlstate::kSyntaxError) << text;
  }
}

TEST(Parser, AMilestoneIsAMoment) {
  const Statement at = parse("RESTORE FROM LATEST IN 'x' AT MILESTONE 'v1'");
  const Expression& moment = *std::get<Restore>(at).as_of;
  EXPECT_EQ(moment.kind, Expression::Kind::Milestone);
  EXPECT_EQ(moment.value, "v1");
  EXPECT_EQ(parse("RESTORE FROM LATEST IN 'x' AS OF SYSTEM TIME MILESTONE 'v1'"), at);
  EXPECT_EQ(failure("RESTORE FROM LATEST IN 'x' AT MILESTONE v1").state(), sqlstate::kSyntaxError);
  EXPECT_EQ(failure("RESTORE FROM LATEST IN 'x' AT MILESTONE 'a' AS OF SYSTEM TIME '-1s'").state(),
            sqlstate::kSyntaxError);
  EXPECT_EQ(failure("BACKUP INTO 'x' AT MILESTONE 'v1'").state(), sqlstate::kSyntaxError);
}

// They are no statements by themselves: only row_source.h hands them to the parser.
TEST(Parser, ReadsOurTablesOfTheInformationSchema) {
  for (const char* text :
       {"information_schema.mv_backup_history", "information_schema.mv_backup_status",
        "information_schema.mv_milestones"}) {
    EXPECT_EQ(print(parse(text), Redact::Nothing), text);
  }
  EXPECT_EQ(parse("INFORMATION_SCHEMA . MV_BACKUP_STATUS"),
            Statement(InformationSchemaView{InformationSchemaView::View::BackupStatus}));
  EXPECT_THROW(parse("information_schema.tables"), Error);
}

}  // namespace
}  // namespace holdfast::sql
