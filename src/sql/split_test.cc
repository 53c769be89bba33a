#include "sql/split.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace holdfast::sql {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::string_view> pieces(std::string_view text) {
  std::vector<std::string_view> result;
  for (const TextRange& range : split(text)) result.push_back(range.of(text));
  return result;
}

TEST(Split, CutsAtSemicolonsAndTrims) {
  EXPECT_THAT(pieces("SELECT 1"), ElementsAre("SELECT 1"));
  EXPECT_THAT(pieces(" SELECT 1 ; "), ElementsAre("SELECT 1"));
  EXPECT_THAT(pieces("a; b ;;c"), ElementsAre("a", "b", "c"));
}

TEST(Split, FindsNothingInBlanksAndComments) {
  EXPECT_THAT(pieces(""), IsEmpty());
  EXPECT_THAT(pieces(" \n"), IsEmpty());
  EXPECT_THAT(pieces("; ; -- c\n /* ; */"), IsEmpty());
}

TEST(Split, KeepsCommentsWithTheirStatement) {
  EXPECT_THAT(pieces("/*+ hint; */ SELECT 1 -- one; two\n; SELECT 2"),
              ElementsAre("/*+ hint; */ SELECT 1 -- one; two", "SELECT 2"));
}

TEST(Split, IgnoresSemicolonsInQuotes) {
  EXPECT_THAT(
      pieces("SELECT 'a;''b', \"c;\"; SELECT E'\\';', $$;$$, $t$ ; $$ $t$, U&'\\003b;'"),
      ElementsAre("SELECT 'a;''b', \"c;\"", "SELECT E'\\';', $$;$$, $t$ ; $$ $t$, U&'\\003b;'"));
  EXPECT_THAT(pieces("SELECT E'a'\n '\\';'; b"), ElementsAre("SELECT E'a'\n '\\';'", "b"));
  EXPECT_THAT(pieces("SELECT a$b$; SELECT c$b$"), ElementsAre("SELECT a$b$", "SELECT c$b$"));
}

TEST(Split, IgnoresSemicolonsInParentheses) {
  EXPECT_THAT(pieces("CREATE RULE r AS ON UPDATE TO t DO (SELECT 1; SELECT 2); SELECT 3"),
              ElementsAre("CREATE RULE r AS ON UPDATE TO t DO (SELECT 1; SELECT 2)", "SELECT 3"));
}

TEST(Split, IgnoresSemicolonsInFunctionBodies) {
  std::string_view function =
      "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; "
      "SELECT 2; END";
  EXPECT_THAT(pieces(std::string(function) + "; SELECT 3"), ElementsAre(function, "SELECT 3"));
  EXPECT_THAT(pieces("BEGIN; SELECT CASE WHEN a THEN 1 END; END"),
              ElementsAre("BEGIN", "SELECT CASE WHEN a THEN 1 END", "END"));
}

TEST(Split, LeavesBrokenTextWhole) {
  for (std::string_view text :
       {"SELECT 1; SELECT 'open", "SELECT 1; SELECT \"open", "SELECT 1; /* open", "a; (b; c",
        "SELECT 1; $x$ open $y$", "CREATE FUNCTION f() BEGIN ATOMIC SELECT 1; SELECT 2"}) {
    EXPECT_THAT(pieces(text), ElementsAre(text));
  }
}

}  // namespace
}  // namespace holdfast::sql
