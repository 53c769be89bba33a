#include "sql/filter_text.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "base/error.h"

namespace holdfast::sql {
namespace {

std::string complaint(std::string_view filter) {
  try {
    check_filter_text(filter);
    return {};
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kSyntaxError);
    EXPECT_EQ(error.position(), 0);
    return error.message();
  }
}

TEST(FilterText, TakesConditions) {
  for (const std::string_view filter :
       {"id > 5", "region = 'west'", "(a OR b) AND c[1] = (2)", "name LIKE 'a;)%'",
        "body = $$) ; ($$", "\"odd ) name;\" IS NULL", "id > 5 -- the rest )", "/* ( */ true",
        "id IN (SELECT max(id) FROM t)", "E'\\')' = x"}) {
    EXPECT_EQ(complaint(filter), "") << filter;
  }
}

TEST(FilterText, RefusesWhatDoesNotStayInItsParentheses) {
  for (const std::string_view filter :
       {"true) OR (true", "true)", "(true", "a[1", "(a]", "true; DROP TABLE t",
        "true) TO PROGRAM 'x' --", "", "  ", "-- nothing", "/* nothing */"}) {
    EXPECT_NE(complaint(filter), "") << filter;
  }
  EXPECT_EQ(complaint("true)"), "invalid filter in option where: \")\" closes nothing");
  EXPECT_EQ(complaint("f("), "invalid filter in option where: \"(\" is not closed");
}

TEST(FilterText, RefusesWhatTheScannerDoes) {
  EXPECT_NE(complaint("'open"), "");
  EXPECT_NE(complaint("/* open"), "");
  EXPECT_NE(complaint("\"open"), "");
  EXPECT_NE(complaint("$$open"), "");
  EXPECT_NE(complaint(std::string_view("true\0) OR (true", 15)), "");
}

}  // namespace
}  // namespace holdfast::sql
