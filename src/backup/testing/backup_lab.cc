#include "backup/testing/backup_lab.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/unique_fd.h"
#include "collection/format.h"
#include "collection/wal_archive.h"
#include "postgres/lsn.h"

namespace holdfast::backup::testing {

namespace {

constexpr std::string_view kSubdirectory = "2026/11/20-223000.00";

/// What open_store() gives: the lab's own store, which outlives it.
class BorrowedStore final : public storage::ObjectStore {
 public:
  explicit BorrowedStore(storage::ObjectStore& store) : store_(store) {}

  storage::PutResult put(const storage::ObjectKey& key, ByteView bytes, storage::PutMode mode,
                         const Stop& stop) override {
    return store_.put(key, bytes, mode, stop);
  }
  bool get_into(const storage::ObjectKey& key, std::uint64_t offset, MutableByteView into,
                const Stop& stop) override {
    return store_.get_into(key, offset, into, stop);
  }
  std::optional<storage::ObjectInfo> stat(const storage::ObjectKey& key,
                                          const Stop& stop) override {
    return store_.stat(key, stop);
  }
  void list(const storage::ObjectKey& prefix,
            const std::function<void(const storage::ObjectInfo&)>& visit,
            const Stop& stop) override {
    store_.list(prefix, visit, stop);
  }
  std::vector<std::string> list_directories(const storage::ObjectKey& prefix,
                                            const Stop& stop) override {
    return store_.list_directories(prefix, stop);
  }
  void remove(const storage::ObjectKey& key, const Stop& stop) override {
    store_.remove(key, stop);
  }
  std::string description() const override { return store_.description(); }

 private:
  storage::ObjectStore& store_;
};

Bytes serialize(const proto::BackupJobSpec& spec) {
  const std::string text = spec.SerializeAsString();
  const ByteView bytes = as_bytes(text);
  return Bytes(bytes.begin(), bytes.end());
}

void write_file(const std::filesystem::path& path, ByteView bytes) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  if (!file.flush()) throw_errno(fmt::format("write \"{}\"", path.string()));
}

}  // namespace

LabJob::LabJob(jobs::JobId id, const proto::BackupJobSpec& spec)
    : id_(id), specification_(serialize(spec)) {}

void LabJob::at(const std::string& point, std::function<void()> action, int nth) {
  actions_.push_back({point, nth, std::move(action)});
}

void LabJob::stop_at(const std::string& point, StopReason reason, int nth) {
  at(
      point, [this, reason] { source_.request(reason); }, nth);
}

void LabJob::report(const jobs::Progress& progress) {
  MutexLock lock(mutex_);
  progress_ = progress;
}

jobs::Progress LabJob::progress() const {
  MutexLock lock(mutex_);
  return progress_;
}

void LabJob::notice(std::string_view message) { notices_.emplace_back(message); }

void LabJob::pause_point(std::string_view name) {
  int count = 0;
  {
    MutexLock lock(mutex_);
    count = ++reached_[std::string(name)];
  }
  for (const Action& action : actions_) {
    if (action.point == name && action.nth == count) action.run();
  }
  stop_.check();
}

int LabJob::reached(const std::string& point) const {
  MutexLock lock(mutex_);
  const auto found = reached_.find(point);
  return found == reached_.end() ? 0 : found->second;
}

BackupLab::BackupLab(postgres::testing::PrivateInstanceOptions options)
    : server_(std::move(options)),
      store_(std::make_unique<storage::MemoryStore>()),
      spool_(server_.scratch() / "spool") {}

std::unique_ptr<storage::ObjectStore> BackupLab::open_store(
    std::string_view uri, const storage::StoreAccess& /*access*/) {
  if (uri == elsewhere_.description()) return std::make_unique<BorrowedStore>(elsewhere_);
  return std::make_unique<BorrowedStore>(store_);
}

proto::BackupJobSpec BackupLab::spec() const {
  proto::BackupJobSpec spec;
  spec.set_collection_uri("memory:///");
  spec.set_subdirectory(std::string(kSubdirectory));
  spec.set_workers(2);
  return spec;
}

BackupEnvironment BackupLab::environment() {
  BackupEnvironment environment;
  environment.stores = this;
  environment.conninfo = [this] { return server_.conninfo(); };
  environment.data_directory = server_.data_directory();
  environment.spool_directory = spool_;
  environment.node_id = "1";
  environment.locality = "region=here";
  environment.holdfast_version = "0.0.0-test";
  return environment;
}

void BackupLab::resume(LabJob& job) { BackupJob(environment()).resume(job); }
void BackupLab::revert(LabJob& job) { BackupJob(environment()).revert(job); }

collection::proto::Manifest BackupLab::manifest() {
  auto manifest = collection::read_manifest(store_, kSubdirectory, Stop::never());
  if (!manifest) throw Error(sqlstate::kUndefinedFile, "the backup has no manifest");
  return std::move(*manifest);
}

std::vector<std::string> BackupLab::objects() {
  std::vector<std::string> keys;
  store_.list(
      "", [&](const storage::ObjectInfo& object) { keys.push_back(object.key); }, Stop::never());
  std::ranges::sort(keys);
  return keys;
}

std::map<std::string, Bytes> BackupLab::unpack(const collection::proto::Manifest& manifest) {
  const Stop stop = Stop::never();
  std::map<std::string, Bytes> content;
  std::map<std::uint32_t, Bytes*> by_id;
  for (const auto& file : manifest.files()) {
    EXPECT_FALSE(content.contains(file.path())) << file.path();
    EXPECT_FALSE(by_id.contains(file.id())) << file.path();
    Bytes& bytes = content[file.path()];
    bytes.resize(file.size());
    by_id[file.id()] = &bytes;
  }

  collection::BackupUuid uuid{};
  std::copy_n(reinterpret_cast<const std::byte*>(manifest.backup_uuid().data()), uuid.size(),
              uuid.begin());
  std::set<std::pair<std::uint32_t, std::uint32_t>> seen;
  collection::FrameDecoder decoder;
  for (const auto& pack : manifest.packs()) {
    const auto key = collection::pack_key(kSubdirectory, pack.number());
    const auto entries =
        collection::read_pack_index(store_, key, collection::summary_of(pack), uuid, stop);
    const std::set<std::uint32_t> superseded(pack.superseded().begin(), pack.superseded().end());
    for (std::uint32_t i = 0; i < entries.size(); ++i) {
      if (superseded.contains(i)) continue;
      const auto& entry = entries[i];
      const auto found = by_id.find(entry.file_id);
      if (found == by_id.end()) {
        ADD_FAILURE() << "frame of an unknown file " << entry.file_id;
        continue;
      }
      const std::uint64_t offset = std::uint64_t{entry.frame} * collection::kFrameBytes;
      Bytes& bytes = *found->second;
      EXPECT_TRUE(seen.emplace(entry.file_id, entry.frame).second) << "a frame is there twice";
      const std::uint64_t expected =
          offset < bytes.size()
              ? std::min<std::uint64_t>(collection::kFrameBytes, bytes.size() - offset)
              : 0;
      EXPECT_EQ(entry.plain_bytes, expected) << "frame " << entry.frame;
      if (entry.plain_bytes != expected) continue;
      Bytes stored(entry.stored_bytes);
      store_.get_into(key, entry.offset, stored, stop);
      decoder.decode(entry, stored, MutableByteView(bytes).subspan(offset, expected), key);
    }
  }
  std::size_t frames = 0;
  for (const auto& file : manifest.files()) {
    frames += (file.size() + collection::kFrameBytes - 1) / collection::kFrameBytes;
  }
  EXPECT_EQ(seen.size(), frames) << "frames are missing";
  return content;
}

postgres::testing::PrivateInstance BackupLab::restore(const collection::proto::Manifest& manifest) {
  const auto root = server_.scratch() / "restored";
  const auto wal = server_.scratch() / "restored_wal";
  std::filesystem::remove_all(root);
  std::filesystem::create_directories(root);
  std::filesystem::create_directories(wal);
  for (const auto& tablespace : manifest.tablespaces()) {
    const auto location = server_.scratch() / fmt::format("restored_{}", tablespace.oid());
    std::filesystem::remove_all(location);
    std::filesystem::create_directories(location);
    std::filesystem::create_directories(root / "pg_tblspc");
    std::filesystem::create_directory_symlink(
        location, root / "pg_tblspc" / std::to_string(tablespace.oid()));
    server_.give(location);
  }
  for (const auto& directory : manifest.directories()) {
    std::filesystem::create_directories(root / directory.path());
    std::filesystem::permissions(root / directory.path(),
                                 static_cast<std::filesystem::perms>(directory.mode()));
  }
  for (const auto& [path, bytes] : unpack(manifest)) {
    if (!path.starts_with("/")) write_file(root / path, bytes);
  }
  write_file(root / "backup_label", as_bytes(manifest.backup_label()));
  for (const auto& segment : manifest.wal()) {
    const auto name = postgres::wal_segment_name(segment.timeline(), segment.segment(),
                                                 manifest.instance().wal_segment_bytes());
    EXPECT_TRUE(collection::get_wal_segment_file(
        store_,
        {.system_identifier = manifest.instance().system_identifier(),
         .timeline = segment.timeline(),
         .segment = segment.segment(),
         .segment_bytes = manifest.instance().wal_segment_bytes()},
        (wal / name).string(), Stop::never()));
  }
  write_file(root / "recovery.signal", {});
  std::ofstream config(root / "postgresql.auto.conf", std::ios::app);
  config << "restore_command = 'cp " << wal.string()
         << "/%f %p'\nrecovery_target_action = promote\nrecovery_target_lsn = '"
         << to_string(postgres::Lsn{manifest.stop().position()}) << "'\n";
  config.close();
  for (const auto& tablespace : manifest.tablespaces()) {
    server_.give(server_.scratch() / fmt::format("restored_{}", tablespace.oid()));
  }
  server_.give(root);
  server_.give(wal);
  return postgres::testing::PrivateInstance::adopt(root);
}

std::filesystem::path BackupLab::relation_file(const std::string& table) {
  return server_.data_directory() /
         server_.execute(fmt::format("SELECT pg_relation_filepath('{}')", table)).text(0, 0);
}

void BackupLab::damage(const std::filesystem::path& file, std::uint32_t block) {
  const UniqueFd fd(::open(file.c_str(), O_RDWR | O_CLOEXEC));
  std::byte byte{};
  const auto at = static_cast<off_t>(block) * 8192 + 5000;
  ASSERT_EQ(::pread(fd.get(), &byte, 1, at), 1);
  byte = ~byte;
  ASSERT_EQ(::pwrite(fd.get(), &byte, 1, at), 1);
}

}  // namespace holdfast::backup::testing
