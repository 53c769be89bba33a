#include "base/userinfo.h"

#include <gtest/gtest.h>

namespace holdfast {
namespace {

TEST(RedactUserinfo, HidesThePassword) {
  EXPECT_EQ(redact_userinfo("user:hush@host/p?q=1"), "user:redacted@host/p?q=1");
  EXPECT_EQ(redact_userinfo("user:hu@sh@host:80"), "user:redacted@host:80");
  EXPECT_EQ(redact_userinfo("user:123@host"), "user:redacted@host");
  EXPECT_EQ(redact_userinfo("u:p@[::1]:5432/db"), "u:redacted@[::1]:5432/db");
  EXPECT_EQ(redact_userinfo(":hush@host"), ":redacted@host");
}

// GitHub's tokens stand there, and Azure's.
TEST(RedactUserinfo, HidesAUserWithoutPasswordBecauseItMayBeAToken) {
  EXPECT_EQ(redact_userinfo("hush@host/p"), "redacted@host/p");
}

TEST(RedactUserinfo, HidesAPasswordWithDelimitersThatNobodyEncoded) {
  EXPECT_EQ(redact_userinfo("user:hu/sh@host/p"), "user:redacted@host/p");
  EXPECT_EQ(redact_userinfo("user:hu?sh@host/p?q=1"), "user:redacted@host/p?q=1");
  EXPECT_EQ(redact_userinfo("user:hu#s/h@host"), "user:redacted@host");
  EXPECT_EQ(redact_userinfo("user:hush/p"), "user:redacted/p");
}

TEST(RedactUserinfo, LeavesEverythingElse) {
  for (const char* text : {"host", "host:9000/p", "1/a@b", "self/a:b@c", "[::1]:80/p@q", "",
                           "/projects/P", "host/p?q=a:b@c"}) {
    EXPECT_EQ(redact_userinfo(text), text);
  }
}

}  // namespace
}  // namespace holdfast
