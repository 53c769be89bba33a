#include "collection/object_lock.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/deletion_marks.h"
#include "collection/testing/names.h"

namespace holdfast::collection {
namespace {

TEST(ObjectLock, IsForWhatARestoreNeeds) {
  for (const std::string& key :
       {manifest_key(kFull), pack_key(kFull, 3), std::string(kFull) + "/ENCRYPTION-INFO-2",
        std::string("metadata/latest/LATEST-fff9bd2e2d1a8f7f"),
        std::string("wal/7/00000001/000000010000000000000001.wal"),
        std::string("wal/7/00000001/000000010000000000000001.blocks"),
        std::string("wal/7/00000002.history")}) {
    EXPECT_TRUE(outlives_its_job(key)) << key;
  }
  for (const std::string& key :
       {lock_key(kFull, 9), std::string(kFull) + "/progress/BACKUP-CHECKPOINT-fff0",
        deletion_mark_key(kFull, 9), std::string("metadata/retention/RETENTION-LOCK-9"),
        std::string("wal/7/00000001/000000010000000000000001.4096.partial")}) {
    EXPECT_FALSE(outlives_its_job(key)) << key;
  }
}

TEST(ObjectLock, ChecksWhatItIsGiven) {
  EXPECT_FALSE(object_lock("", 0));
  const auto lock = object_lock("compliance", 60);
  ASSERT_TRUE(lock);
  EXPECT_EQ(lock->mode, storage::LockMode::Compliance);
  EXPECT_EQ(lock->retain_for, std::chrono::minutes(1));
  EXPECT_FALSE(lock->is_for(lock_key(kFull, 1)));
  EXPECT_EQ(object_lock("governance", 60)->mode, storage::LockMode::Governance);
  EXPECT_THROW(object_lock("none", 60), Error);
  EXPECT_THROW(object_lock("governance", 0), Error);
  EXPECT_THROW(object_lock("governance", 1ULL << 62), Error);
}

}  // namespace
}  // namespace holdfast::collection
