#include "jobs/progress.h"

#include <gtest/gtest.h>

namespace holdfast::jobs {
namespace {

constexpr std::uint64_t kMiB = 1024 * 1024;
const ProgressMeter::Moment kStart{std::chrono::hours(1)};

TEST(Progress, BytesAndDurationsReadLikeText) {
  EXPECT_EQ(format_bytes(0), "0 bytes");
  EXPECT_EQ(format_bytes(1023), "1023 bytes");
  EXPECT_EQ(format_bytes(1024), "1.0 KiB");
  EXPECT_EQ(format_bytes(640 * kMiB), "640 MiB");
  EXPECT_EQ(format_bytes(1024 * kMiB - 1), "1.0 GiB");
  EXPECT_EQ(format_bytes(4402341478), "4.1 GiB");
  EXPECT_EQ(format_duration(std::chrono::seconds(4)), "4 s");
  EXPECT_EQ(format_duration(std::chrono::seconds(125)), "2 min 5 s");
  EXPECT_EQ(format_duration(std::chrono::seconds(4320)), "1 h 12 min");
}

TEST(Progress, TellsAmountRateAndTimeLeft) {
  ProgressMeter meter(0);
  meter.report({.bytes_done = 0, .bytes_total = 1000 * kMiB, .phase = "copying files"});
  meter.text(kStart);
  meter.report({.bytes_done = 200 * kMiB, .bytes_total = 1000 * kMiB, .phase = "copying files"});
  EXPECT_EQ(meter.text(kStart + std::chrono::seconds(2)),
            "copying files: 200 MiB of 1000 MiB, 100 MiB/s, 8 s left");
  EXPECT_DOUBLE_EQ(meter.fraction(), 0.2);
}

TEST(Progress, MeasuresTheRateOfTheLastTenSecondsOnly) {
  ProgressMeter meter(0);
  for (int second = 0; second <= 40; ++second) {
    const std::uint64_t done =
        second <= 20 ? 0 : static_cast<std::uint64_t>(second - 20) * 10 * kMiB;
    meter.report({.bytes_done = done, .bytes_total = 1000 * kMiB, .phase = "copying files"});
    meter.text(kStart + std::chrono::seconds(second));
  }
  EXPECT_EQ(meter.text(kStart + std::chrono::seconds(40)),
            "copying files: 200 MiB of 1000 MiB, 10 MiB/s, 1 min 20 s left");
}

TEST(Progress, APhaseWithoutBytesIsItsNameOnly) {
  ProgressMeter meter(0.25);
  meter.report({.bytes_done = 0, .bytes_total = 0, .phase = "waiting for WAL"});
  EXPECT_EQ(meter.text(kStart), "waiting for WAL");
  EXPECT_DOUBLE_EQ(meter.fraction(), 0.25);
}

TEST(Progress, ANewPhaseStartsItsOwnRate) {
  ProgressMeter meter(0);
  meter.report({.bytes_done = 0, .bytes_total = 0, .phase = "a"});
  meter.text(kStart);
  meter.report({.bytes_done = 500 * kMiB, .bytes_total = 0, .phase = "b"});
  EXPECT_EQ(meter.text(kStart + std::chrono::seconds(1)), "b: 500 MiB");
}

TEST(Progress, TheFractionNeverGoesBackAndIsNotFullBeforeTheEnd) {
  ProgressMeter meter(0.5);
  meter.report({.bytes_done = 1, .bytes_total = 10, .phase = "again"});
  EXPECT_DOUBLE_EQ(meter.fraction(), 0.5);
  meter.report({.bytes_done = 10, .bytes_total = 10, .phase = "again"});
  EXPECT_DOUBLE_EQ(meter.fraction(), 0.999);
}

}  // namespace
}  // namespace holdfast::jobs
