#include "collection/deletion_marks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "collection/testing/names.h"
#include "storage/fault_store.h"
#include "storage/memory_store.h"

namespace holdfast::collection {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class DeletionMarksTest : public ::testing::Test {
 protected:
  void forbid_removals() {
    store_.add({.call = storage::StoreCall::Remove,
                .times = 1000,
                .error = Error(sqlstate::kInsufficientPrivilege, "write-once")});
  }
  static bool never(std::int64_t) { return false; }

  storage::FaultStore store_{std::make_unique<storage::MemoryStore>()};
  Stop stop_ = Stop::never();
};

TEST_F(DeletionMarksTest, KeepBackupsOutOfTheChain) {
  require_not_deleted(store_, kFull, stop_);
  EXPECT_TRUE(mark_deletion(store_, kFull, 7, stop_));
  EXPECT_TRUE(mark_deletion(store_, kFull, 7, stop_));
  EXPECT_TRUE(mark_deletion(store_, kFull, 8, stop_));
  EXPECT_THAT(deletion_marks(store_, kFull, stop_), ElementsAre(7, 8));
  EXPECT_THROW(require_not_deleted(store_, kFull, stop_), Error);
  withdraw_deletion(store_, kFull, 8, stop_);
  withdraw_deletion(store_, kFull, 7, stop_);
  require_not_deleted(store_, kFull, stop_);
}

TEST_F(DeletionMarksTest, AreWithdrawnWhereNothingCanBeRemoved) {
  forbid_removals();
  EXPECT_TRUE(mark_deletion(store_, kFull, 7, stop_));
  withdraw_deletion(store_, kFull, 7, stop_);
  withdraw_deletion(store_, kFull, 7, stop_);
  EXPECT_THAT(deletion_marks(store_, kFull, stop_), IsEmpty());
  EXPECT_FALSE(mark_deletion(store_, kFull, 7, stop_));
  EXPECT_TRUE(mark_deletion(store_, kFull, 8, stop_));
}

TEST_F(DeletionMarksTest, TheRetentionLockIsForOneJob) {
  take_retention_lock(store_, 7, never, stop_);
  take_retention_lock(store_, 7, never, stop_);
  EXPECT_THROW(take_retention_lock(store_, 8, never, stop_), Error);
  take_retention_lock(store_, 7, never, stop_);  // the other one has left nothing
  take_retention_lock(
      store_, 9, [](std::int64_t) { return true; }, stop_);
  release_retention_lock(store_, 7, stop_);
  release_retention_lock(store_, 9, stop_);
  take_retention_lock(store_, 10, never, stop_);
}

TEST_F(DeletionMarksTest, TheRetentionLockIsGivenBackWhereNothingCanBeRemoved) {
  forbid_removals();
  take_retention_lock(store_, 7, never, stop_);
  release_retention_lock(store_, 7, stop_);
  take_retention_lock(store_, 8, never, stop_);
}

}  // namespace
}  // namespace holdfast::collection
