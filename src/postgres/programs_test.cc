#include "postgres/programs.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "base/error.h"

namespace holdfast::postgres {
namespace {

/// A directory with a "postgres" that says it is of this version.
std::filesystem::path programs_of(int major) {
  std::filesystem::path directory =
      std::filesystem::path(::testing::TempDir()) /
      ("programs-" + std::to_string(::getpid()) + "-" + std::to_string(major));
  std::filesystem::create_directories(directory);
  const std::filesystem::path server = directory / "postgres";
  std::ofstream(server) << "#!/bin/sh\necho 'postgres (PostgreSQL) " << major << ".3 (Debian)'\n";
  std::filesystem::permissions(server, std::filesystem::perms::owner_all);
  return directory;
}

TEST(Programs, AskTheServerForItsVersion) {
  EXPECT_EQ(programs_major(programs_of(17), Stop::never()), 17);
  EXPECT_EQ(programs_major("/nonexistent", Stop::never()), std::nullopt);
}

TEST(Programs, TakeTheGivenOnesOfTheRightVersion) {
  ProgramsWanted wanted{.data_directory = "/lost",
                        .major = 17,
                        .given = {programs_of(16), programs_of(17)},
                        .remembered = {}};
  EXPECT_EQ(choose_pg_bin(wanted, Stop::never()), programs_of(17));
  wanted.major = 14;
  EXPECT_THROW(choose_pg_bin(wanted, Stop::never()), Error);
}

TEST(Programs, AreRememberedWhenTheDataDirectoryIsLost) {
  ProgramsWanted wanted{
      .data_directory = "/lost", .major = {}, .given = {}, .remembered = programs_of(13)};
  EXPECT_EQ(choose_pg_bin(wanted, Stop::never()), programs_of(13));
  wanted.given = {programs_of(16)};
  EXPECT_EQ(choose_pg_bin(wanted, Stop::never()), programs_of(16))
      << "what the user says comes first";
}

}  // namespace
}  // namespace holdfast::postgres
