#include "backup/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "base/error.h"
#include "io/file.h"

namespace holdfast::backup {
namespace {

using collection::proto::FileKind;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class PlanTest : public ::testing::Test {
 protected:
  PlanTest() : root_(std::filesystem::temp_directory_path() / ("plan-" + io::random_suffix())) {
    for (const char* directory : {"base/5", "base/pgsql_tmp", "global", "pg_tblspc", "pg_wal"}) {
      std::filesystem::create_directories(data() / directory);
    }
    write("PG_VERSION", "15\n");
    write("global/pg_control", std::string(8192, 'c'));
  }
  ~PlanTest() override { std::filesystem::remove_all(root_); }

  std::filesystem::path data() const { return root_ / "data"; }
  void write(const std::string& path, const std::string& content) {
    std::filesystem::create_directories((data() / path).parent_path());
    std::ofstream(data() / path, std::ios::binary) << content;
  }
  Plan plan() const {
    return make_plan({.data_directory = data(),
                      .tablespace_version_directory = "PG_15_202209061",
                      .outside_files = outside_},
                     Stop::never());
  }
  static std::map<std::string, FileKind> files(const Plan& plan) {
    std::map<std::string, FileKind> found;
    for (std::size_t i = 0; i < plan.files.size(); ++i) {
      found[plan.files.path(i)] = plan.files.kind(i);
    }
    return found;
  }
  static std::vector<std::string> directories(const Plan& plan) {
    std::vector<std::string> found;
    for (const auto& directory : plan.files.directories()) found.push_back(directory.path);
    return found;
  }

  std::filesystem::path root_;
  std::vector<std::filesystem::path> outside_;
};

TEST_F(PlanTest, TellsRelationsFromOtherFiles) {
  write("base/5/1259", "x");
  write("base/5/1259.1", "x");
  write("base/5/1259_vm", "x");
  write("base/5/PG_VERSION", "15\n");
  write("pg_xact/0000", "x");
  const auto found = files(plan());
  EXPECT_EQ(found.at("base/5/1259"), FileKind::FILE_KIND_RELATION);
  EXPECT_EQ(found.at("base/5/1259.1"), FileKind::FILE_KIND_RELATION);
  EXPECT_EQ(found.at("base/5/1259_vm"), FileKind::FILE_KIND_RELATION);
  EXPECT_EQ(found.at("base/5/PG_VERSION"), FileKind::FILE_KIND_PLAIN);
  EXPECT_EQ(found.at("pg_xact/0000"), FileKind::FILE_KIND_PLAIN);
  EXPECT_EQ(found.at("global/pg_control"), FileKind::FILE_KIND_CONTROL);
}

TEST_F(PlanTest, LeavesOutWhatAServerMakesAnew) {
  for (const char* path :
       {"base/5/t3_16384", "base/5/pg_internal.init", "base/5/pg_internal.init.77",
        "base/pgsql_tmp/pgsql_tmp1.0", "pg_wal/000000010000000000000001", "postmaster.pid",
        "backup_label", "pg_replslot/s/state", "pg_subtrans/0000", "pg_stat_tmp/global.stat"}) {
    write(path, "x");
  }
  EXPECT_EQ(files(plan()).size(), 2U);
  EXPECT_THAT(directories(plan()),
              ElementsAre("", "base", "base/5", "global", "pg_replslot", "pg_stat_tmp",
                          "pg_subtrans", "pg_tblspc", "pg_wal"));
}

TEST_F(PlanTest, KeepsOnlyTheInitForkOfUnloggedRelations) {
  for (const char* path : {"base/5/16384", "base/5/16384.1", "base/5/16384_fsm",
                           "base/5/16384_init", "base/5/16385"}) {
    write(path, "x");
  }
  const auto found = files(plan());
  EXPECT_FALSE(found.contains("base/5/16384"));
  EXPECT_FALSE(found.contains("base/5/16384.1"));
  EXPECT_FALSE(found.contains("base/5/16384_fsm"));
  EXPECT_TRUE(found.contains("base/5/16384_init"));
  EXPECT_TRUE(found.contains("base/5/16385"));
}

TEST_F(PlanTest, FollowsTablespaceLinksIntoThisClustersDirectoryOnly) {
  const auto space = root_ / "space";
  std::filesystem::create_directories(space / "PG_15_202209061" / "5");
  std::filesystem::create_directories(space / "PG_14_202107181" / "5");
  std::ofstream(space / "PG_15_202209061" / "5" / "16400") << "x";
  std::ofstream(space / "PG_14_202107181" / "5" / "16400") << "x";
  std::filesystem::create_directory_symlink(space, data() / "pg_tblspc" / "16390");
  const Plan result = plan();
  ASSERT_EQ(result.tablespaces.size(), 1U);
  EXPECT_EQ(result.tablespaces[0].oid(), 16390U);
  EXPECT_EQ(result.tablespaces[0].location(), space.string());
  const auto found = files(result);
  EXPECT_EQ(found.at("pg_tblspc/16390/PG_15_202209061/5/16400"), FileKind::FILE_KIND_RELATION);
  EXPECT_EQ(found.size(), 3U);
}

TEST_F(PlanTest, TakesATablespaceInsideTheDataDirectoryOnce) {
  const auto space = data() / "space";
  std::filesystem::create_directories(space / "PG_15_202209061" / "5");
  std::ofstream(space / "PG_15_202209061" / "5" / "16400") << "x";
  std::filesystem::create_directory_symlink(space, data() / "pg_tblspc" / "16390");
  EXPECT_EQ(files(plan()).size(), 3U);
}

TEST_F(PlanTest, TurnsALinkedWalDirectoryIntoAPlainOne) {
  std::filesystem::remove(data() / "pg_wal");
  std::filesystem::create_directory(root_ / "wal");
  std::filesystem::create_directory_symlink(root_ / "wal", data() / "pg_wal");
  const Plan result = plan();
  EXPECT_THAT(directories(result), ::testing::Contains("pg_wal"));
  EXPECT_THAT(result.skipped, IsEmpty());
}

TEST_F(PlanTest, ReportsLinksAndSpecialFilesThatAreLeftOut) {
  ASSERT_EQ(mkfifo((data() / "pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("/etc/ssl/certs/ssl-cert-snakeoil.pem", data() / "server.crt");
  const Plan result = plan();
  EXPECT_THAT(result.skipped, ElementsAre("pipe", "server.crt"));
}

TEST_F(PlanTest, RefusesLinksInPlaceOfData) {
  std::filesystem::create_directory(root_ / "elsewhere");
  std::filesystem::create_directory_symlink(root_ / "elsewhere", data() / "base" / "16384");
  EXPECT_THROW(plan(), Error);
  std::filesystem::remove(data() / "base" / "16384");
  std::filesystem::create_directory_symlink(root_ / "elsewhere", data() / "pg_xact");
  EXPECT_THROW(plan(), Error);
}

TEST_F(PlanTest, RefusesATablespaceThatIsNotMounted) {
  std::filesystem::create_directory(root_ / "space");
  std::filesystem::create_directory_symlink(root_ / "space", data() / "pg_tblspc" / "16390");
  EXPECT_THROW(plan(), Error);
}

TEST_F(PlanTest, TakesTheModeOfADataDirectoryBehindALink) {
  const auto real = root_ / "real";
  std::filesystem::rename(data(), real);
  std::filesystem::permissions(real, std::filesystem::perms::owner_all);
  std::filesystem::create_directory_symlink(real, data());
  const Plan result = plan();
  EXPECT_EQ(result.files.directories()[0].path, "");
  EXPECT_EQ(result.files.directories()[0].mode, 0700U);
}

TEST_F(PlanTest, TakesConfigurationFromElsewhereWithItsModeAndFollowsLinks) {
  const auto config = root_ / "postgresql.conf";
  std::ofstream(root_ / "real.conf") << "port = 5433\n";
  chmod((root_ / "real.conf").c_str(), 0640);
  std::filesystem::create_symlink(root_ / "real.conf", config);
  outside_ = {config, root_ / "missing.conf"};
  const Plan result = plan();
  EXPECT_EQ(files(result).at(config.string()), FileKind::FILE_KIND_EXTERNAL_CONFIG);
  EXPECT_EQ(files(result).size(), 3U);
  EXPECT_EQ(result.files[0].size, 12U);
  EXPECT_EQ(result.files[0].mode, 0640U);
}

}  // namespace
}  // namespace holdfast::backup
