#include "backup/sign_of_life.h"

#include <gtest/gtest.h>

#include "collection/collection.h"
#include "storage/memory_store.h"

namespace holdfast::backup {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kLifeDirectory = "2020/01/01-000000.00";

class LifeClock final : public Clock {
 public:
  Time now() const override { return time; }
  Time time = std::chrono::sys_days(std::chrono::November / 1 / 2026);
};

TEST(SignOfLife, IsRenewedAfterMinutesAndRemovedAtTheEnd) {
  storage::MemoryStore store;
  LifeClock clock;
  const Stop stop = Stop::never();
  SignOfLife life(store, std::string(kLifeDirectory), 7, clock, stop);
  const auto newest = [&] {
    return collection::look_at_unfinished(store, kLifeDirectory, stop).newest_checkpoint;
  };
  life.renew();  // before the lock is taken the directory is somebody else's
  EXPECT_FALSE(newest());
  life.begin();
  const Time first = clock.time;
  EXPECT_EQ(newest(), first);
  clock.time += 1min;
  life.renew();
  EXPECT_EQ(newest(), first);
  clock.time += 1h;
  life.renew();
  EXPECT_EQ(newest(), clock.time);
  life.end();
  EXPECT_FALSE(newest());
}

}  // namespace
}  // namespace holdfast::backup
