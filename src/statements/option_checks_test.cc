#include "statements/option_checks.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "sql/parser.h"

namespace holdfast::statements {
namespace {

sql::Options options_of(std::string_view backup_options) {
  return std::get<sql::Backup>(
             sql::parse("BACKUP INTO 'nodelocal://1/x' WITH " + std::string(backup_options)))
      .options;
}

TEST(OptionChecks, RateTakesUnitsOfPostgres) {
  EXPECT_EQ(parse_rate("1000000"), 1'000'000U);
  EXPECT_EQ(parse_rate("512 kB"), 512U * 1024);
  EXPECT_EQ(parse_rate("1.5GB"), 3ULL << 29);
  EXPECT_EQ(parse_rate("1B"), 1U);
}

TEST(OptionChecks, RateRefusesWhatIsNone) {
  for (const char* text : {"", "0", "-1", "fast", "10 mb", "1TB", "1e9", "nan", "inf", "0.2",
                           "9999999999GB", "1GB/s"}) {
    EXPECT_THROW(parse_rate(text), Error) << text;
  }
}

TEST(OptionChecks, OptionsWithoutAnEngineAreRefusedByName) {
  for (const char* text : {"execution locality = 'a=b'", "include_all_virtual_clusters = true"}) {
    try {
      refuse_unsupported_options(options_of(text), "BACKUP");
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.state(), sqlstate::kFeatureNotSupported);
      EXPECT_NE(error.message().find(std::string(text).substr(0, 3)), std::string::npos)
          << error.message();
    }
  }
}

TEST(OptionChecks, AnOptionThatIsSwitchedOffAsksForNothing) {
  EXPECT_NO_THROW(refuse_unsupported_options(
      options_of("revision_history = false, include_all_virtual_clusters = false, compression = "
                 "'lz4', detached"),
      "BACKUP"));
}

TEST(OptionChecks, WorkersAreBounded) {
  EXPECT_EQ(workers_option(options_of("workers = 8"), 64), 8U);
  EXPECT_EQ(workers_option(options_of("detached"), 64), 0U);
  EXPECT_THROW(workers_option(options_of("workers = 0"), 64), Error);
  EXPECT_THROW(workers_option(options_of("workers = 65"), 64), Error);
}

TEST(OptionChecks, SeveralUrisNeedLocalityAwareness) {
  sql::Uris one{{.value = "nodelocal://1/x", .parameter = {}}};
  EXPECT_EQ(single_uri(one, "BACKUP"), "nodelocal://1/x");
  sql::Uris two{one[0], one[0]};
  EXPECT_THROW(single_uri(two, "BACKUP"), Error);
}

}  // namespace
}  // namespace holdfast::statements
