// Chains whose incremental layers are in another place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "collection/incremental_location.h"
#include "retention/retention_job.h"
#include "retention/testing/retention_lab.h"

namespace holdfast::retention {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::LabJob;
using ::testing::Not;
using ::testing::Pair;
using ::testing::StartsWith;
using namespace std::chrono_literals;

class RetentionElsewhereTest : public ::testing::Test {
 protected:
  /// Two chains, a day between them; the first has a layer in either place.
  RetentionElsewhereTest() {
    first_ = lab_.full(10, 11);
    lab_.incremental(first_, 12, 12);
    const auto both = lab_.both();
    both->claim(first_, collection::LocatedStore::Claim::Take, collection::Viewer::Other, stop_);
    lab_.incremental(*both, first_, 13, 13);
    lab_.clock.advance(24h);
    second_ = lab_.full(14, 15);
    lab_.clock.advance(1h);
  }

  proto::RetentionJobSpec older(std::chrono::hours age) {
    return lab_.older_than(lab_.clock.now() - age);
  }
  proto::RetentionJobSpec with_elsewhere(proto::RetentionJobSpec spec) {
    spec.set_incremental_uri(lab_.elsewhere.description());
    return spec;
  }
  std::vector<std::string> objects_elsewhere() {
    std::vector<std::string> keys;
    lab_.elsewhere.list(
        "", [&](const storage::ObjectInfo& info) { keys.push_back(info.key); }, stop_);
    return keys;
  }

  testing::RetentionLab lab_;
  std::string first_;
  std::string second_;
  Stop stop_ = Stop::never();
};

TEST_F(RetentionElsewhereTest, ChainsAreDeletedInBothPlaces) {
  EXPECT_THAT(lab_.run(with_elsewhere(older(20h))),
              Contains(Pair(first_, StartsWith("deleted: older than"))));
  EXPECT_THAT(lab_.fulls(), ElementsAre(second_));
  EXPECT_THAT(lab_.objects(first_), IsEmpty());
  EXPECT_THAT(lab_.objects(collection::incrementals_of(first_)), IsEmpty());
  EXPECT_THAT(objects_elsewhere(), IsEmpty());
  EXPECT_THAT(lab_.wal(), ElementsAre(14, 15));
}

TEST_F(RetentionElsewhereTest, LayersElsewhereDecideHowOldAChainIs) {
  lab_.incremental(*lab_.both(), first_, 16, 16);
  EXPECT_THAT(lab_.run(with_elsewhere(older(20h))),
              Contains(Pair(first_, StartsWith("kept: not older than"))));
}

TEST_F(RetentionElsewhereTest, WithoutThePlaceTheChainAndItsWalStay) {
  EXPECT_THAT(lab_.run(older(20h)), Contains(Pair(first_, HasSubstr("memory://elsewhere"))));
  EXPECT_THAT(lab_.fulls(), ElementsAre(first_, second_));
  EXPECT_THAT(lab_.wal(), Contains(13));
  EXPECT_THAT(objects_elsewhere(), Not(IsEmpty()));
  // Nor does it count for one that is whole.
  EXPECT_THAT(lab_.run(lab_.older_than(lab_.clock.now() + 1h)),
              Contains(Pair(second_, "kept: the last backup that can be restored")));
}

TEST_F(RetentionElsewhereTest, WhatOthersHaveElsewhereStays) {
  const std::string of_others = second_ + "/20261120/231500.00/BACKUP_MANIFEST";
  lab_.elsewhere.put(of_others, as_bytes("x"), storage::PutMode::OnlyIfAbsent, stop_);
  lab_.full(18, 19);
  lab_.run(with_elsewhere(lab_.keep(1)));
  EXPECT_THAT(objects_elsewhere(), ElementsAre(of_others));
}

// The process dies at each pause point; the next one goes on.
TEST_F(RetentionElsewhereTest, ACrashLeavesNothingThatIsNotFoundAgain) {
  struct Killed {};
  LabJob job(lab_.registry(), lab_.create(with_elsewhere(older(20h))));
  for (int at = 1;; ++at) {
    int reached = 0;
    job.at_point = [&](std::string_view) {
      if (++reached == at) throw Killed();
    };
    try {
      lab_.resume(job);
      break;
    } catch (const Killed&) {
    }
  }
  EXPECT_THAT(lab_.fulls(), ElementsAre(second_));
  EXPECT_THAT(lab_.objects(first_), IsEmpty());
  EXPECT_THAT(objects_elsewhere(), IsEmpty());
}

TEST_F(RetentionElsewhereTest, WhatIsLockedElsewhereIsRemovedWhenItMay) {
  // Another job, without the place, finds what is left of the chain, and leaves it alone.
  lab_.store.add({.call = storage::StoreCall::Remove,
                  .key_pattern = first_ + "/data/*",
                  .times = 1,
                  .error = Error(sqlstate::kInsufficientPrivilege, "object is locked")});
  EXPECT_THAT(lab_.run(with_elsewhere(older(20h))), Contains(Pair(first_, StartsWith("not yet:"))));
  EXPECT_THAT(lab_.run(older(20h)), Contains(Pair(first_, HasSubstr("memory://elsewhere"))));
  EXPECT_THAT(lab_.run(with_elsewhere(older(20h))), Contains(Pair(first_, StartsWith("deleted:"))));
  EXPECT_THAT(lab_.objects(first_), IsEmpty());
  EXPECT_THAT(objects_elsewhere(), IsEmpty());
}

}  // namespace
}  // namespace holdfast::retention
