#include "jobs/pause_points.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace holdfast::jobs {
namespace {

TEST(PausePoints, NothingHappensWithoutConfiguration) {
  PausePoints points;
  EXPECT_TRUE(points.empty());
  EXPECT_EQ(points.reach("backup.after_manifest"), std::nullopt);
}

TEST(PausePoints, ActsTheFirstTimeOnly) {
  PausePoints points("a=pause");
  EXPECT_EQ(points.reach("b"), std::nullopt);
  ASSERT_TRUE(points.reach("a"));
  EXPECT_EQ(points.reach("a"), std::nullopt);
}

TEST(PausePoints, CountsAndRepeats) {
  PausePoints points("a=fail@3,b=retry@*");
  EXPECT_EQ(points.reach("a"), std::nullopt);
  EXPECT_EQ(points.reach("a"), std::nullopt);
  EXPECT_EQ(points.reach("a").value().action, PauseAction::Fail);
  EXPECT_EQ(points.reach("a"), std::nullopt);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(points.reach("b").value().action, PauseAction::Retry);
}

TEST(PausePoints, StallsOnAFile) {
  PausePoints points("a=stall:/tmp/go@2,b=stall,c=kill");
  points.reach("a");
  const auto hit = points.reach("a");
  ASSERT_TRUE(hit);
  EXPECT_EQ(hit->action, PauseAction::Stall);
  EXPECT_EQ(hit->file, "/tmp/go");
  EXPECT_EQ(points.reach("b").value().file, "");
  EXPECT_EQ(points.reach("c").value().action, PauseAction::Kill);
}

TEST(PausePoints, RefusesWhatItDoesNotUnderstand) {
  for (const char* text : {"a", "=kill", "a=explode", "a=kill@0", "a=kill@x", "a=kill:/file",
                           "a=kill@1x", "a=kill,,b=kill"}) {
    EXPECT_THROW(PausePoints{text}, Error) << text;
  }
}

}  // namespace
}  // namespace holdfast::jobs
