#include "state/database.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

#include "base/error.h"
#include "state/schema.h"

namespace holdfast::state {
namespace {

class DatabaseTest : public ::testing::Test {
 protected:
  DatabaseTest() {
    std::string name = (std::filesystem::temp_directory_path() / "holdfast-state-XXXXXX").string();
    directory_ = mkdtemp(name.data());
  }
  ~DatabaseTest() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path store() const { return directory_ / "store"; }
  static unsigned mode(const std::filesystem::path& path) {
    struct stat status {};
    EXPECT_EQ(stat(path.c_str(), &status), 0);
    return status.st_mode & 0777;
  }

  std::filesystem::path directory_;
};

template <typename Action>
Error error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(sqlstate::kSuccess, "");
}

TEST_F(DatabaseTest, CreatesTheStoreForItsOwnerOnly) {
  Database database(store());
  EXPECT_EQ(mode(store()), 0700U);
  EXPECT_EQ(mode(store() / "holdfast.db"), 0600U);
  EXPECT_EQ(mode(store() / "holdfast.db-wal"), 0600U);
  EXPECT_EQ(mode(store() / "LOCK"), 0600U);
  EXPECT_EQ(mode(store() / "holdfast.key"), 0600U);
}

TEST_F(DatabaseTest, KeepsSettingsOverRestarts) {
  {
    Database database(store());
    EXPECT_EQ(database.setting("node_id"), std::nullopt);
    database.set_setting("node_id", "1");
    database.set_setting("node_id", "2");
  }
  Database database(store());
  EXPECT_EQ(database.setting("node_id"), "2");
}

TEST_F(DatabaseTest, RefusesASecondDaemonAndNamesTheFirst) {
  Database database(store());
  const Error error = error_of([&] { Database second(store()); });
  EXPECT_EQ(error.state(), sqlstate::kObjectInUse);
  EXPECT_NE(error.detail().find(std::to_string(getpid())), std::string::npos) << error.detail();
}

TEST_F(DatabaseTest, GivesTheStoreBackWhenItIsClosed) {
  { Database database(store()); }
  EXPECT_NO_THROW(Database database(store()));
}

TEST_F(DatabaseTest, RollsBackWhatWasNotCommitted) {
  Database database(store());
  {
    Transaction transaction(database);
    transaction.execute("INSERT INTO settings VALUES ('a', '1')");
  }
  EXPECT_EQ(database.setting("a"), std::nullopt);
}

TEST_F(DatabaseTest, ReadsBackEveryTypeOfValue) {
  Database database(store());
  const Bytes bytes = {std::byte{0}, std::byte{255}};
  Transaction transaction(database);
  Statement row = transaction.query(
      "SELECT ?, ?, ?, ?, ?, ?, ?",
      {std::int64_t{-5}, 0.5, "text", bytes, std::nullopt, std::string_view(), Bytes()});
  ASSERT_TRUE(row.step());
  EXPECT_EQ(row.integer(0), -5);
  EXPECT_EQ(row.real(1), 0.5);
  EXPECT_EQ(row.text(2), "text");
  EXPECT_EQ(row.bytes(3), bytes);
  EXPECT_TRUE(row.is_null(4));
  EXPECT_EQ(row.optional_text(5), "");
  EXPECT_EQ(row.optional_bytes(6), Bytes());
  EXPECT_FALSE(row.step());
}

TEST_F(DatabaseTest, SaysWhatToDoWithADamagedFile) {
  { Database database(store()); }
  {
    std::ofstream file(store() / "holdfast.db", std::ios::binary);
    for (int i = 0; i < 1000; ++i) file << "not a database, ";
  }
  const Error error = error_of([&] { Database database(store()); });
  EXPECT_EQ(error.state(), sqlstate::kDataCorrupted);
  EXPECT_NE(error.hint().find("aside"), std::string::npos) << error.hint();
}

TEST_F(DatabaseTest, NoticesADamagedPageWhenItOpens) {
  {
    Database database(store());
    for (int i = 0; i < 200; ++i) {
      database.set_setting("name" + std::to_string(i), std::string(500, 'x'));
    }
  }
  const auto size = std::filesystem::file_size(store() / "holdfast.db");
  ASSERT_GT(size, 8 * 4096U);
  {
    std::fstream file(store() / "holdfast.db", std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(size - 4 * 4096));
    file << std::string(4096, '\xff');
  }
  EXPECT_EQ(error_of([&] { Database database(store()); }).state(), sqlstate::kDataCorrupted);
}

TEST_F(DatabaseTest, RefusesASchemaOfANewerVersion) {
  {
    Database database(store());
    Transaction transaction(database);
    transaction.execute("PRAGMA user_version = " + std::to_string(migrations().size() + 1));
    transaction.commit();
  }
  const Error error = error_of([&] { Database database(store()); });
  EXPECT_EQ(error.state(), sqlstate::kFeatureNotSupported);
  EXPECT_NE(error.hint().find("newer"), std::string::npos) << error.hint();
}

TEST_F(DatabaseTest, ReportsAFullDiskAndGoesOnAfterwards) {
  Database database(store());
  // SQLite answers a write beyond max_page_count as it answers a full disk.
  {
    Transaction transaction(database);
    Statement pages = transaction.query("PRAGMA page_count");
    ASSERT_TRUE(pages.step());
    const std::string limit = std::to_string(pages.integer(0) + 4);
    transaction.execute("PRAGMA max_page_count = " + limit);
  }
  const std::string large(100000, 'x');
  const Error error = error_of([&] { database.set_setting("large", large); });
  EXPECT_EQ(error.state(), sqlstate::kDiskFull);
  database.set_setting("small", "1");
  EXPECT_EQ(database.setting("small"), "1");
}

TEST_F(DatabaseTest, ServesManyThreads) {
  Database database(store());
  {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < 4; ++thread) {
      threads.emplace_back([&, thread] {
        for (int i = 0; i < 10; ++i) {
          database.set_setting(std::to_string(thread * 100 + i), "x");
        }
      });
    }
  }
  Transaction transaction(database);
  Statement count = transaction.query("SELECT count(*) FROM settings WHERE value = 'x'");
  ASSERT_TRUE(count.step());
  EXPECT_EQ(count.integer(0), 40);
}

TEST_F(DatabaseTest, OpensSecretsAfterARestartAndOnlyInTheirPlace) {
  Bytes sealed;
  {
    Database database(store());
    sealed = database.seal(as_bytes("hush"), "table.1");
  }
  Database database(store());
  EXPECT_EQ(as_text(database.unseal(sealed, "table.1")), "hush");
  EXPECT_EQ(error_of([&] { database.unseal(sealed, "table.2"); }).state(),
            sqlstate::kDataCorrupted);
}

TEST_F(DatabaseTest, RefusesToStartWithoutItsKeyOrWithAnotherOne) {
  { Database database(store()); }
  std::filesystem::rename(store() / "holdfast.key", directory_ / "kept");
  Error error = error_of([&] { Database database(store()); });
  EXPECT_EQ(error.state(), sqlstate::kConfigFileError);
  EXPECT_NE(error.message().find("does not exist"), std::string::npos) << error.message();

  std::ofstream(store() / "holdfast.key") << std::string(64, 'a');
  std::filesystem::permissions(store() / "holdfast.key", std::filesystem::perms::owner_read);
  error = error_of([&] { Database database(store()); });
  EXPECT_NE(error.message().find("another key"), std::string::npos) << error.message();

  std::filesystem::permissions(store() / "holdfast.key", std::filesystem::perms(0644));
  error = error_of([&] { Database database(store()); });
  EXPECT_NE(error.message().find("others than its owner"), std::string::npos) << error.message();

  std::filesystem::rename(directory_ / "kept", store() / "holdfast.key");
  EXPECT_NO_THROW(Database database(store()));
}

TEST_F(DatabaseTest, LeavesNoClearTextOfAnOlderHoldfastBehind) {
  const std::string secret = "AWS_SECRET_ACCESS_KEY=hush";
  {
    Database database(store());
    Transaction transaction(database);
    transaction.execute(
        "INSERT INTO jobs (id, type, description, statement, user_name, status, created, modified)"
        " VALUES (7, 'BACKUP', '', '', '', 'running', 0, 0)");
    transaction.execute("INSERT INTO job_blobs (job_id, specification) VALUES (7, ?)",
                        {as_bytes(secret)});
    transaction.execute("DELETE FROM settings WHERE name LIKE 'secrets.%'");
    transaction.commit();
  }
  std::filesystem::remove(store() / "holdfast.key");

  Database database(store());
  for (const auto& file : std::filesystem::directory_iterator(store())) {
    std::ifstream in(file.path(), std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    EXPECT_EQ(text.find("hush"), std::string::npos) << file.path();
  }
  Transaction transaction(database);
  Statement row = transaction.query("SELECT specification FROM job_blobs WHERE job_id = 7");
  ASSERT_TRUE(row.step());
  EXPECT_EQ(as_text(database.unseal(row.bytes(0), specification_place(7))), secret);
}

TEST_F(DatabaseTest, SaysWhyItCannotCreateTheStore) {
  std::ofstream(directory_ / "store") << "a file is in the way";
  const Error error = error_of([&] { Database database(store() / "below"); });
  EXPECT_NE(error.message().find((store() / "below").string()), std::string::npos);
}

}  // namespace
}  // namespace holdfast::state
