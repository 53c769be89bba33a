#include "storage/local_store.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>

#include "io/aligned_buffer.h"
#include "io/fault_file_system.h"
#include "storage/open_store.h"
#include "storage/testing/object_store_contract.h"

namespace holdfast::storage {
namespace {

using io::FileCall;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// A directory for one test.
struct Directory {
  Directory() {
    std::string pattern = testing::TempDir() + "/holdfast-store-XXXXXX";
    path = ::mkdtemp(pattern.data());
  }
  ~Directory() { std::filesystem::remove_all(path); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  std::string path;
};

struct MakeLocal {
  Directory directory;
  std::unique_ptr<ObjectStore> operator()() {
    return open_local_store({.root_directory = directory.path,
                             .prefix = "below/here",
                             .description = "local",
                             .files = nullptr});
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Local, ObjectStoreContract, MakeLocal);

/// RENAME_NOREPLACE as NFS answers it.
class NoReplaceUnsupported : public io::FileSystem {
 public:
  int rename_at(int from_directory, const char* from, int to_directory, const char* to,
                unsigned flags) override {
    if (flags == 0) return FileSystem::rename_at(from_directory, from, to_directory, to, 0);
    errno = EINVAL;
    return -1;
  }
};

struct MakeLocalWithoutNoReplace {
  Directory directory;
  NoReplaceUnsupported files;
  std::unique_ptr<ObjectStore> operator()() {
    return open_local_store(
        {.root_directory = directory.path, .prefix = "", .description = "local", .files = &files});
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(LocalWithoutNoReplace, ObjectStoreContract,
                               MakeLocalWithoutNoReplace);

/// A server of NFS that dies when it has done what it was asked to, but not yet said so: the second
/// time it refuses.
class ForgetfulServer : public NoReplaceUnsupported {
 public:
  int rename_at(int from_directory, const char* from, int to_directory, const char* to,
                unsigned flags) override {
    if (NoReplaceUnsupported::rename_at(from_directory, from, to_directory, to, flags) != 0) {
      return -1;
    }
    errno = ENOENT;
    return -1;
  }
  int link_at(int from_directory, const char* from, int to_directory, const char* to) override {
    if (FileSystem::link_at(from_directory, from, to_directory, to) != 0) return -1;
    errno = EEXIST;
    return -1;
  }
};

class LocalStoreTest : public ::testing::Test {
 protected:
  std::unique_ptr<ObjectStore> open(io::FileSystem* files = nullptr) {
    return open_local_store({.root_directory = directory_.path,
                             .prefix = "",
                             .description = "nodelocal://1/",
                             .files = files});
  }
  std::vector<std::string> files_there() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_.path)) {
      if (!entry.is_directory()) {
        names.push_back(std::filesystem::relative(entry.path(), directory_.path));
      }
    }
    return names;
  }

  Directory directory_;
  Stop stop_ = Stop::never();
};

TEST_F(LocalStoreTest, ItsOwnObjectDoesNotCountAsTaken) {
  ForgetfulServer files;
  const auto store = open(&files);
  EXPECT_EQ(store->put("k", as_bytes("mine"), PutMode::OnlyIfAbsent, stop_), PutResult::Stored);
  EXPECT_EQ(store->put("k", as_bytes("new"), PutMode::OnlyIfAbsent, stop_), PutResult::Taken);
  EXPECT_EQ(as_text(*get_whole(*store, "k", 10, stop_)), "mine");
  EXPECT_EQ(store->put("k", as_bytes("newer"), PutMode::Overwrite, stop_), PutResult::Stored);
  EXPECT_EQ(as_text(*get_whole(*store, "k", 10, stop_)), "newer");
  EXPECT_THAT(files_there(), ElementsAre("k"));
}

/// Somebody else takes the name between our look and the link.
TEST_F(LocalStoreTest, ANameThatAnotherFileHasIsTaken) {
  class Overtaken : public NoReplaceUnsupported {
   public:
    explicit Overtaken(std::filesystem::path path) : path_(std::move(path)) {}
    int link_at(int from_directory, const char* from, int to_directory, const char* to) override {
      std::ofstream(path_) << "theirs";
      return FileSystem::link_at(from_directory, from, to_directory, to);
    }

   private:
    std::filesystem::path path_;
  } files(std::filesystem::path(directory_.path) / "k");
  const auto store = open(&files);
  EXPECT_EQ(store->put("k", as_bytes("mine"), PutMode::OnlyIfAbsent, stop_), PutResult::Taken);
  EXPECT_EQ(as_text(*get_whole(*store, "k", 10, stop_)), "theirs");
  EXPECT_THAT(files_there(), ElementsAre("k"));
}

TEST_F(LocalStoreTest, APutThatReturnedSurvivesPowerFailure) {
  io::FaultFileSystem faults;
  const auto store = open(&faults);
  store->put("a/b/c", as_bytes("kept"), PutMode::OnlyIfAbsent, stop_);
  faults.lose_unsynced();
  EXPECT_EQ(as_text(*get_whole(*store, "a/b/c", 10, stop_)), "kept");
}

TEST_F(LocalStoreTest, AnOverwriteThatReturnedSurvivesPowerFailure) {
  io::FaultFileSystem faults;
  const auto store = open(&faults);
  store->put("k", as_bytes("old"), PutMode::Overwrite, stop_);
  store->put("k", as_bytes("new"), PutMode::Overwrite, stop_);
  faults.lose_unsynced();
  EXPECT_EQ(as_text(*get_whole(*store, "k", 10, stop_)), "new");
}

TEST_F(LocalStoreTest, AFailedPutLeavesNothingAndNamesTheObject) {
  for (const FileCall call :
       {FileCall::Open, FileCall::Write, FileCall::Sync, FileCall::Rename, FileCall::Mkdir}) {
    SCOPED_TRACE(static_cast<int>(call));
    io::FaultFileSystem faults;
    const auto store = open(&faults);
    // The first open is that of the root.
    faults.add({.call = call, .nth = 1, .times = 1, .error_number = ENOSPC, .short_bytes = 0});
    try {
      store->put("new/object", as_bytes("content"), PutMode::OnlyIfAbsent, stop_);
      ADD_FAILURE() << "put did not fail";
    } catch (const Error& error) {
      EXPECT_EQ(error.state(), sqlstate::kDiskFull);
      EXPECT_THAT(error.message(), HasSubstr("\"new/object\""));
    }
    EXPECT_THAT(files_there(), IsEmpty());
    EXPECT_FALSE(store->stat("new/object", stop_));
  }
}

TEST_F(LocalStoreTest, AFullDiskInTheMiddleOfAPutLeavesNothing) {
  io::FaultFileSystem faults;
  const auto store = open(&faults);
  faults.add(
      {.call = FileCall::Write, .nth = 2, .times = 1, .error_number = ENOSPC, .short_bytes = 0});
  EXPECT_THROW(store->put("k", Bytes(30U << 20), PutMode::OnlyIfAbsent, stop_), Error);
  EXPECT_THAT(files_there(), IsEmpty());
}

TEST_F(LocalStoreTest, ShortWritesAreGoneOnWith) {
  io::FaultFileSystem faults;
  const auto store = open(&faults);
  faults.add({.call = FileCall::Write, .nth = 1, .times = 2, .error_number = 0, .short_bytes = 3});
  store->put("k", as_bytes("0123456789"), PutMode::OnlyIfAbsent, stop_);
  EXPECT_EQ(as_text(*get_whole(*store, "k", 10, stop_)), "0123456789");
}

TEST_F(LocalStoreTest, WritesAroundThePageCacheWhateverTheLength) {
  io::AlignedBuffer buffer(12U << 20);
  for (std::size_t i = 0; i < buffer.size(); ++i) buffer.data()[i] = static_cast<std::byte>(i / 5);
  const auto store = open();
  for (const std::size_t length : {std::size_t{1} << 20, (std::size_t{1} << 20) + 1,
                                   (std::size_t{9} << 20) + 4095, std::size_t{12} << 20}) {
    const ByteView bytes = ByteView(buffer.view()).first(length);
    const std::string key = std::to_string(length);
    store->put(key, bytes, PutMode::OnlyIfAbsent, stop_);
    const auto back = get_whole(*store, key, length, stop_);
    ASSERT_TRUE(back);
    EXPECT_TRUE(std::equal(back->begin(), back->end(), bytes.begin(), bytes.end())) << length;
  }
}

TEST_F(LocalStoreTest, GoesOnThroughThePageCacheWhenADirectWriteIsRefused) {
  io::AlignedBuffer buffer(2U << 20);
  for (std::size_t i = 0; i < buffer.size(); ++i) buffer.data()[i] = static_cast<std::byte>(i / 5);
  io::FaultFileSystem faults;
  const auto store = open(&faults);
  faults.add(
      {.call = FileCall::Write, .nth = 1, .times = 1, .error_number = EINVAL, .short_bytes = 0});
  store->put("k", buffer.view(), PutMode::OnlyIfAbsent, stop_);
  const auto back = get_whole(*store, "k", buffer.size(), stop_);
  EXPECT_TRUE(std::equal(back->begin(), back->end(), buffer.data(), buffer.data() + buffer.size()));
}

TEST_F(LocalStoreTest, ReadFailuresAreReported) {
  io::FaultFileSystem faults;
  const auto store = open(&faults);
  store->put("k", as_bytes("0123456789"), PutMode::OnlyIfAbsent, stop_);
  faults.add({.call = FileCall::Read, .nth = 1, .times = 1, .error_number = EIO, .short_bytes = 0});
  Bytes bytes(10);
  EXPECT_THROW(store->get_into("k", 0, bytes, stop_), Error);
}

TEST_F(LocalStoreTest, LeftoversOfACrashAreInvisibleAndCleaned) {
  const auto store = open();
  store->put("d/k", as_bytes("x"), PutMode::OnlyIfAbsent, stop_);
  std::ofstream(directory_.path + "/d/.hf-0123456789abcdef") << "half";
  std::vector<std::string> keys;
  store->list(
      "", [&](const ObjectInfo& info) { keys.push_back(info.key); }, stop_);
  EXPECT_THAT(keys, ElementsAre("d/k"));
  EXPECT_THAT(files_there(), ElementsAre("d/k"));
}

TEST_F(LocalStoreTest, DoesNotFollowLinksOutOfItsDirectory) {
  const Directory outside;
  std::ofstream(outside.path + "/secret") << "secret";
  ASSERT_EQ(::symlink(outside.path.c_str(), (directory_.path + "/dir").c_str()), 0);
  ASSERT_EQ(::symlink((outside.path + "/secret").c_str(), (directory_.path + "/file").c_str()), 0);
  const auto store = open();
  Bytes bytes(6);
  for (const std::string key : {"dir/secret", "file"}) {
    try {
      store->get_into(key, 0, bytes, stop_);
      ADD_FAILURE() << key << " was read";
    } catch (const Error& error) {
      EXPECT_EQ(error.state(), sqlstate::kInsufficientPrivilege);
      EXPECT_THAT(error.message(), HasSubstr("symbolic link"));
    }
    EXPECT_THROW(store->stat(key, stop_), Error);
  }
  EXPECT_THROW(store->put("dir/new", as_bytes("x"), PutMode::OnlyIfAbsent, stop_), Error);
  EXPECT_THROW(store->remove("dir/secret", stop_), Error);
  EXPECT_THROW(store->list(
                   "dir", [](const ObjectInfo&) {}, stop_),
               Error);
  EXPECT_EQ(store->put("file", as_bytes("x"), PutMode::OnlyIfAbsent, stop_), PutResult::Taken);
  store->list(
      "", [](const ObjectInfo& info) { ADD_FAILURE() << info.key << " was listed"; }, stop_);
  EXPECT_TRUE(std::filesystem::exists(outside.path + "/secret"));
  EXPECT_FALSE(std::filesystem::exists(outside.path + "/new"));
}

TEST_F(LocalStoreTest, ItsRootMayBeALink) {
  const Directory other;
  const std::string link = other.path + "/link";
  ASSERT_EQ(::symlink(directory_.path.c_str(), link.c_str()), 0);
  const auto store = open_local_store(
      {.root_directory = link, .prefix = "", .description = "local", .files = nullptr});
  EXPECT_EQ(store->put("k", as_bytes("x"), PutMode::OnlyIfAbsent, stop_), PutResult::Stored);
}

TEST_F(LocalStoreTest, KeepsObjectsFromOthers) {
  open()->put("d/k", as_bytes("x"), PutMode::OnlyIfAbsent, stop_);
  struct stat status {};
  ASSERT_EQ(::stat((directory_.path + "/d/k").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 077U, 0U);
  ASSERT_EQ(::stat((directory_.path + "/d").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 077U, 0U);
}

TEST_F(LocalStoreTest, AFifoIsNoObject) {
  ASSERT_EQ(::mkfifo((directory_.path + "/fifo").c_str(), 0600), 0);
  Bytes bytes(1);
  EXPECT_FALSE(open()->get_into("fifo", 0, bytes, stop_));
}

class OpenStoreTest : public LocalStoreTest {
 protected:
  StorageConfig config_{.external_io_dir = directory_.path, .node_id = "1", .files = nullptr};

  Error failure(std::string_view uri) {
    try {
      open_store(uri, config_);
    } catch (const Error& error) {
      return error;
    }
    return Error(sqlstate::kSuccess, "opened");
  }
};

TEST_F(OpenStoreTest, OpensThePathBelowTheExternalDirectory) {
  for (const char* uri : {"nodelocal://self/a/b", "nodelocal://1/a//b/", "NODELOCAL://1/a/%62"}) {
    open_store(uri, config_)->put("k", as_bytes("x"), PutMode::Overwrite, stop_);
  }
  EXPECT_THAT(files_there(), ElementsAre("a/b/k"));
}

TEST_F(OpenStoreTest, RefusesPathsThatLeadOut) {
  for (const char* uri :
       {"nodelocal://1/../x", "nodelocal://1/a/%2e%2E/../x", "nodelocal://1/.."}) {
    EXPECT_EQ(failure(uri).state(), sqlstate::kInvalidParameterValue) << uri;
  }
}

TEST_F(OpenStoreTest, TellsWhatIsWrongWithAUri) {
  EXPECT_EQ(failure("nodelocal:///a").message(),
            "host component of nodelocal URI must be a node ID (use 'self' to specify each node "
            "should access its own local filesystem): nodelocal:///a");
  EXPECT_EQ(failure("nodelocal://2/a").state(), sqlstate::kFeatureNotSupported);
  EXPECT_EQ(failure("nodelocal://1/a?X=1").message(), "unknown nodelocal query parameters: X");
  EXPECT_EQ(failure("userfile://db.public.files/a").state(), sqlstate::kFeatureNotSupported);
  EXPECT_EQ(failure("userfile:///a").state(), sqlstate::kInvalidParameterValue);
  EXPECT_EQ(failure("gopher://a").state(), sqlstate::kInvalidParameterValue);
  EXPECT_EQ(failure("/just/a/path").state(), sqlstate::kInvalidParameterValue);
  EXPECT_EQ(failure("nodelocal://1/%zz").state(), sqlstate::kInvalidParameterValue);
  EXPECT_EQ(failure("nodelocal://1/%00").state(), sqlstate::kInvalidParameterValue);
  config_.external_io_dir.clear();
  EXPECT_EQ(failure("nodelocal://1/a").state(), sqlstate::kObjectNotInPrerequisiteState);
  config_.external_io_dir = directory_.path + "/missing";
  EXPECT_EQ(failure("nodelocal://1/a").state(), sqlstate::kUndefinedFile);
}

}  // namespace
}  // namespace holdfast::storage
