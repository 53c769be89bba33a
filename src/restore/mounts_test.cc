#include "restore/mounts.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace holdfast::restore {
namespace {

constexpr std::string_view kMounts =
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    "36 22 8:17 / /srv/pg rw,noatime - xfs /dev/sdb1 rw\n"
    "37 36 8:33 / /srv/pg/data/pg_wal rw - xfs /dev/sdc1 rw\n"
    "38 36 8:49 /sub /srv/pg/data/a\\040b rw - xfs /dev/sdd1 rw\n"
    "39 36 8:65 / /srv/pg/data-old rw - xfs /dev/sde1 rw\n"
    "40 36 8:66 / /srv/pg/other\\134 rw - xfs /dev/sdf1 rw";

TEST(Mounts, AreFoundBelowADirectoryAlone) {
  EXPECT_EQ(mounts_below("/srv/pg/data", kMounts),
            (std::vector<std::string>{"/srv/pg/data/pg_wal", "/srv/pg/data/a b"}));
  EXPECT_EQ(mounts_below("/srv/pg/data-old", kMounts), std::vector<std::string>{});
  EXPECT_EQ(mounts_below("/srv/pg", kMounts).back(), "/srv/pg/other\\");
  EXPECT_EQ(mounts_below("/srv/pg/data", ""), std::vector<std::string>{});
  EXPECT_EQ(mounts_below("/srv/pg/data", "1 2\n\n3"), std::vector<std::string>{});
}

TEST(Mounts, OfThisMachineRefuseTheDirectoryAboveThem) {
  // Linux mounts /proc, and something below it or /dev or /sys, wherever tests run.
  EXPECT_THROW(require_no_mounts_below(""), Error);
  EXPECT_NO_THROW(require_no_mounts_below("/proc/self/fd"));
}

}  // namespace
}  // namespace holdfast::restore
