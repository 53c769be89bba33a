#include "postgres/timeline_path.h"
#include "postgres/testing/segment_size.h"

#include <gtest/gtest.h>

namespace holdfast::postgres {
namespace {

using testing::kDefaultSegment;

Lsn in_segment(std::uint64_t segment, std::uint64_t offset) {
  return Lsn{segment * kDefaultSegment + offset};
}

// Timeline 1 left in segment 5, timeline 3 in segment 9 (2 is not an ancestor of 4).
TimelinePath path() {
  return TimelinePath(4, {{1, in_segment(5, 100), ""}, {3, in_segment(9, 200), ""}});
}

TEST(TimelinePath, TakesASegmentFromTheNewestTimelineThatBeginsInIt) {
  const TimelinePath timelines = path();
  EXPECT_EQ(timelines.of_segment(4, kDefaultSegment), 1U);
  EXPECT_EQ(timelines.of_segment(5, kDefaultSegment), 3U);
  EXPECT_EQ(timelines.of_segment(8, kDefaultSegment), 3U);
  EXPECT_EQ(timelines.of_segment(9, kDefaultSegment), 4U);
  EXPECT_EQ(timelines.of_segment(1000, kDefaultSegment), 4U);
  EXPECT_EQ(TimelinePath(1, {}).of_segment(7, kDefaultSegment), 1U);
}

TEST(TimelinePath, EndsATimelineWhereItWasLeft) {
  const TimelinePath timelines = path();
  EXPECT_TRUE(timelines.contains(1, in_segment(5, 100)));
  EXPECT_FALSE(timelines.contains(1, in_segment(5, 108)));
  EXPECT_FALSE(timelines.contains(2, in_segment(5, 0)));
  EXPECT_FALSE(timelines.contains(3, in_segment(5, 0)));
  EXPECT_TRUE(timelines.contains(3, in_segment(6, 0)));
  EXPECT_FALSE(timelines.contains(4, in_segment(9, 0)));
  EXPECT_TRUE(timelines.contains(4, in_segment(900, 0)));
  EXPECT_FALSE(timelines.contains(5, in_segment(900, 0)));
  EXPECT_EQ(timelines.end_of(3), in_segment(9, 200));
  EXPECT_FALSE(timelines.end_of(4).valid());
}

}  // namespace
}  // namespace holdfast::postgres
