#include "pgwire/response_tracker.h"

#include <gtest/gtest.h>

#include <string_view>

namespace holdfast::pgwire {
namespace {

void sent(ResponseTracker& tracker, std::string_view types) {
  for (char type : types) tracker.sent(type);
}
void received(ResponseTracker& tracker, std::string_view types) {
  for (char type : types) tracker.received(type);
}

TEST(ResponseTracker, AQueryIsAnsweredByItsReadyForQuery) {
  ResponseTracker tracker;
  sent(tracker, "Q");
  EXPECT_TRUE(tracker.server_speaks());
  received(tracker, "TDCTDC");
  EXPECT_FALSE(tracker.settled());
  received(tracker, "Z");
  EXPECT_TRUE(tracker.idle());
  EXPECT_FALSE(tracker.server_speaks());
}

TEST(ResponseTracker, AnOpenBatchIsSettledWhenEachMessageIsAnswered) {
  ResponseTracker tracker;
  sent(tracker, "PBDE");
  EXPECT_TRUE(tracker.either_speaks());
  EXPECT_TRUE(tracker.batch_executes());
  received(tracker, "12TDDD");
  EXPECT_FALSE(tracker.settled());
  received(tracker, "C");
  EXPECT_TRUE(tracker.settled());
  EXPECT_FALSE(tracker.idle());
  sent(tracker, "S");
  EXPECT_FALSE(tracker.settled());
  received(tracker, "Z");
  EXPECT_TRUE(tracker.idle());
}

TEST(ResponseTracker, AParameterDescriptionIsOnlyHalfAnAnswer) {
  ResponseTracker tracker;
  sent(tracker, "DH");
  EXPECT_TRUE(tracker.server_speaks());
  received(tracker, "t");
  EXPECT_FALSE(tracker.settled());
  received(tracker, "n");
  EXPECT_TRUE(tracker.settled());
}

TEST(ResponseTracker, AnErrorAnswersTheRestOfItsBatchOnly) {
  ResponseTracker tracker;
  sent(tracker, "PBESPBES");
  EXPECT_TRUE(tracker.pipelined());
  received(tracker, "1E");
  EXPECT_FALSE(tracker.settled());
  received(tracker, "Z12C");
  EXPECT_FALSE(tracker.idle());
  received(tracker, "Z");
  EXPECT_TRUE(tracker.idle());
}

TEST(ResponseTracker, AfterAnErrorAnOpenBatchIsSkippedUpToSync) {
  ResponseTracker tracker;
  sent(tracker, "PBE");
  received(tracker, "E");
  EXPECT_TRUE(tracker.batch_failed());
  sent(tracker, "PBEQ");
  EXPECT_TRUE(tracker.settled());
  sent(tracker, "S");
  received(tracker, "Z");
  EXPECT_TRUE(tracker.idle());
}

TEST(ResponseTracker, AQueryBehindAFailedMessageIsSkippedToo) {
  ResponseTracker tracker;
  sent(tracker, "PBEQS");
  received(tracker, "E");
  received(tracker, "Z");
  EXPECT_TRUE(tracker.idle());
}

TEST(ResponseTracker, ASyncDuringCopyIsDiscarded) {
  ResponseTracker tracker;
  sent(tracker, "PBES");
  received(tracker, "12G");
  EXPECT_TRUE(tracker.copy_in());
  EXPECT_FALSE(tracker.server_speaks());
  sent(tracker, "dddcS");
  EXPECT_FALSE(tracker.copy_in());
  received(tracker, "CZ");
  EXPECT_TRUE(tracker.idle());
}

TEST(ResponseTracker, ACopyOfAQueryEndsByAnErrorOfTheServer) {
  ResponseTracker tracker;
  sent(tracker, "Q");
  received(tracker, "G");
  sent(tracker, "dd");
  received(tracker, "EZ");
  sent(tracker, "dc");  // what the client had under way
  EXPECT_TRUE(tracker.idle());
  EXPECT_FALSE(tracker.copy_in());
}

TEST(ResponseTracker, ADyingServerOwesNothing) {
  ResponseTracker tracker;
  received(tracker, "E");
  EXPECT_TRUE(tracker.idle());
}

}  // namespace
}  // namespace holdfast::pgwire
