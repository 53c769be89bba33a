#include "postgres/wal_position.h"

#include <gtest/gtest.h>

#include "postgres/control_file.h"
#include "postgres/testing/private_instance.h"

namespace holdfast::postgres {
namespace {

TEST(WalPosition, TellsWhereAPrimaryIsAndWhatItsSlotsMayKeep) {
  const testing::PrivateInstance server;
  const ControlFile control = read_control_file(server.data_directory());
  Connection connection = server.connect();
  auto position = wal_position(connection, "kept", Stop::never());
  ASSERT_TRUE(position);
  EXPECT_EQ(position->system_identifier, control.system_identifier);
  EXPECT_EQ(position->wal_segment_bytes, control.wal_segment_bytes);
  EXPECT_EQ(position->timeline, 1U);
  EXPECT_TRUE(position->flushed.valid());
  EXPECT_GE(position->inserted, position->flushed);
  EXPECT_EQ(position->slot_limit, std::nullopt);
  EXPECT_FALSE(position->slot);

  server.execute("SELECT pg_create_physical_replication_slot('kept', true)");
  for (const auto& [setting, bytes] :
       {std::pair{"3GB", 3ULL << 30}, {"64MB", 64ULL << 20}, {"0", 0ULL}}) {
    server.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '" + std::string(setting) + "'");
    server.execute("SELECT pg_reload_conf()");
    // The session hears of it between statements, sooner or later.
    for (int i = 0; i < 200; ++i) {
      position = wal_position(connection, "kept", Stop::never());
      if (position && position->slot_limit == bytes) break;
      Stop::never().sleep(std::chrono::milliseconds(50));
    }
    EXPECT_EQ(position->slot_limit, bytes) << setting;
  }
  ASSERT_TRUE(position->slot);
  EXPECT_TRUE(position->slot->restart.valid());
  EXPECT_FALSE(position->slot->wal_status.empty());
}

}  // namespace
}  // namespace holdfast::postgres
