#include "backup/synthetic_full.h"

#include <gtest/gtest.h>

#include "postgres/backup_session.h"

namespace holdfast::backup {
namespace {

TEST(SyntheticFull, ItsLabelIsThatOfABackupFromAStandby) {
  collection::proto::Manifest layer;
  layer.mutable_instance()->set_wal_segment_bytes(16U << 20);
  layer.mutable_start()->set_timeline(3);
  layer.mutable_start()->set_position(0x16'B374'D848);
  layer.set_start_time_us(1'700'000'000'999'999);
  const std::string text = label_of_stopped(layer, postgres::Lsn{0x16'B374'D900}, "holdfast job 7");
  EXPECT_EQ(text,
            "START WAL LOCATION: 16/B374D848 (file 0000000300000016000000B3)\n"
            "CHECKPOINT LOCATION: 16/B374D900\n"
            "BACKUP METHOD: streamed\n"
            "BACKUP FROM: standby\n"
            "START TIME: 2023-11-14 22:13:20 UTC\n"
            "LABEL: holdfast job 7\n"
            "START TIMELINE: 3\n");
  const auto label = postgres::parse_backup_label(text);
  EXPECT_EQ(label.start, postgres::Lsn{0x16'B374'D848});
  EXPECT_EQ(label.checkpoint, postgres::Lsn{0x16'B374'D900});
  EXPECT_EQ(label.timeline, 3U);
  EXPECT_TRUE(label.from_standby);
}

}  // namespace
}  // namespace holdfast::backup
