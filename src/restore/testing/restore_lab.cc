#include "restore/testing/restore_lab.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "base/clock.h"
#include "base/error.h"
#include "collection/chain.h"
#include "collection/format.h"
#include "collection/pack.h"
#include "collection/wal_archive.h"
#include "postgres/control_file.h"
#include "postgres/testing/test_files.h"
#include "postgres/testing/wal_builder.h"
#include "restore/marker.h"
#include "restore/recovery_files.h"
#include "storage/memory_store.h"

namespace holdfast::restore::testing {
namespace {

using collection::kFrameBytes;

constexpr std::string_view kSubdirectory = "2026/11/20-223000.00";
constexpr std::uint64_t kWalBytes = 1U << 20;
constexpr std::uint64_t kWalStop = 1234;  // of the backup, in its segment
constexpr std::uint32_t kCatalogVersion = 202209061;
constexpr std::size_t kPackBytes = 3U << 20;
constexpr std::size_t kBlock = collection::kBlockBytes;

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

Bytes wal_of(std::uint64_t system_identifier) {
  postgres::testing::WalBuilder builder(15, postgres::Lsn{5 * kWalBytes}, kWalBytes);
  while (builder.position().value < 5 * kWalBytes + kWalStop + 1000) {
    builder.add({.resource_manager = 10, .main_data = Bytes(100)});
  }
  Bytes wal = builder.whole_segments();
  // In the header of the segment's first page; no checksum covers it.
  store<std::uint64_t>(wal, 24, system_identifier);
  return wal;
}

Bytes text(std::string_view content) {
  const ByteView bytes = as_bytes(content);
  return {bytes.begin(), bytes.end()};
}

Bytes random_bytes(std::size_t size, unsigned seed) {
  std::mt19937_64 generator(seed);
  Bytes bytes(size);
  for (std::size_t i = 0; i + 8 <= size; i += 8) {
    store<std::uint64_t>(bytes, i, generator());
  }
  return bytes;
}

Bytes read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  const std::string content{std::istreambuf_iterator<char>(file), {}};
  return text(content);
}

void write_file(const std::string& path, std::string_view content) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

collection::BackupUuid uuid_of(const collection::proto::Manifest& manifest) {
  collection::BackupUuid uuid{};
  std::memcpy(uuid.data(), manifest.backup_uuid().data(), uuid.size());
  return uuid;
}

std::string make_root() {
  std::string pattern = "/tmp/holdfast-restore-XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) throw_errno("create a directory in /tmp");
  return pattern;
}

}  // namespace

LabJob::LabJob(jobs::JobId id, const proto::RestoreJobSpec& spec)
    : id_(id), specification_(text(spec.SerializeAsString())) {}

void LabJob::next_attempt() {
  kill_at_.clear();
  kill_after_save_ = {};
  stop_at_.clear();
  source_ = StopSource();
  stop_ = source_.stop();
}

void LabJob::save_checkpoint(ByteView bytes) {
  checkpoint_ = Bytes(bytes.begin(), bytes.end());
  proto::RestoreCheckpoint saved;
  EXPECT_TRUE(saved.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
  if (kill_after_save_ && kill_after_save_(saved)) throw Killed{};
}

void LabJob::report(const jobs::Progress& progress) {
  MutexLock lock(mutex_);
  progress_ = progress;
}

jobs::Progress LabJob::progress() const {
  MutexLock lock(mutex_);
  return progress_;
}

bool LabJob::reached(const std::string& point) const {
  MutexLock lock(mutex_);
  return reached_.contains(point);
}

void LabJob::pause_point(std::string_view name) {
  {
    MutexLock lock(mutex_);
    ++reached_[std::string(name)];
  }
  if (name == kill_at_) throw Killed{};
  if (name == stop_at_) source_.request(stop_reason_);
  stop_.check();
}

void LabInstance::stop(const Stop& /*stop*/) {
  if (runs) ++stops;
  runs = false;
}

void LabInstance::start(const Stop& /*stop*/) {
  if (runs) return;
  if (!std::filesystem::exists(data_directory_ + "/global/pg_control")) {
    throw Error(sqlstate::kSystemError, "there is no data directory to start on");
  }
  if (!fails_on.empty() && std::filesystem::exists(data_directory_ + "/" + fails_on)) {
    throw Error(sqlstate::kSystemError, "could not start PostgreSQL").detail("the log's last line");
  }
  ++starts;
  runs = true;
}

std::optional<std::string> LabInstance::wait_ready(std::chrono::milliseconds /*timeout*/,
                                                   const Stop& stop) {
  stop.check();
  return login_refused;
}

std::vector<std::string> LabInstance::user_objects(const Stop& /*stop*/) { return objects; }

RestoreLab::RestoreLab()
    : root_(make_root()),
      directory_(kSubdirectory),
      store_(std::make_unique<storage::MemoryStore>()),
      instance_(root_ + "/live") {
  make_backup();
}

RestoreLab::~RestoreLab() {
  std::error_code ignored;
  std::filesystem::remove_all(root_, ignored);
}

void RestoreLab::add_file(const std::string& path, Bytes content,
                          collection::proto::FileKind kind) {
  auto& file = *manifest_.add_files();
  file.set_id(static_cast<std::uint32_t>(manifest_.files_size()));
  file.set_path(path);
  file.set_size(content.size());
  file.set_mode(0640);
  file.set_kind(kind);
  manifest_.set_plain_bytes(manifest_.plain_bytes() + content.size());
  content_[path] = std::move(content);
}

void RestoreLab::make_backup() {
  using namespace collection::proto;  // NOLINT: the enumerators below
  manifest_.set_format_version(collection::kPlainFormatVersion);
  manifest_.set_backup_uuid("0123456789abcdef");
  manifest_.set_type(BACKUP_TYPE_FULL);
  manifest_.set_scope(SCOPE_CLUSTER);
  manifest_.set_subdirectory(std::string(kSubdirectory));
  const Bytes control = postgres::testing::test_data("pg_control_15.bin");
  const std::uint64_t system_identifier =
      postgres::parse_control_file(control, "pg_control").system_identifier;
  auto& source = *manifest_.mutable_instance();
  source.set_system_identifier(system_identifier);
  source.set_server_version_num(150020);
  source.set_catalog_version(kCatalogVersion);
  source.set_wal_segment_bytes(kWalBytes);
  source.set_data_directory("/var/lib/postgresql/15/main");
  manifest_.mutable_start()->set_timeline(1);
  manifest_.mutable_start()->set_position(5 * kWalBytes);
  manifest_.mutable_stop()->set_timeline(1);
  manifest_.mutable_stop()->set_position(5 * kWalBytes + kWalStop);
  manifest_.set_backup_label("START WAL LOCATION: 0/500028\n");
  auto& space = *manifest_.add_tablespaces();
  space.set_oid(16400);
  space.set_location(path("space"));
  for (const char* name :
       {"", "base", "base/5", "global", "pg_wal", "pg_notify", "pg_tblspc",
        "pg_tblspc/16400/PG_15_202209061", "pg_tblspc/16400/PG_15_202209061/5"}) {
    auto& directory = *manifest_.add_directories();
    directory.set_path(name);
    directory.set_mode(0750);
  }
  auto& table = *manifest_.add_objects();
  table.set_type("table");
  table.set_rows(1234);

  Bytes holes = random_bytes(3 * kFrameBytes + 8192, 2);
  std::fill_n(holes.begin() + kFrameBytes, kFrameBytes, std::byte{0});
  add_file("PG_VERSION", text("15\n"), FILE_KIND_PLAIN);
  add_file("base/5/1000", random_bytes(5 * kFrameBytes + 8192, 1), FILE_KIND_RELATION);
  add_file("base/5/1001", std::move(holes), FILE_KIND_RELATION);
  add_file("base/5/1002", {}, FILE_KIND_RELATION);
  add_file("base/5/1003", Bytes(2 * kFrameBytes), FILE_KIND_RELATION);
  add_file("global/pg_control", control, FILE_KIND_CONTROL);
  add_file("pg_tblspc/16400/PG_15_202209061/5/2000", random_bytes(kFrameBytes + 8192, 3),
           FILE_KIND_RELATION);
  add_file("postgresql.auto.conf", text("work_mem = '5MB'\n"), FILE_KIND_PLAIN);
  add_file("postgresql.conf", text("port = 5432\n"), FILE_KIND_PLAIN);
  add_file("/etc/holdfast test/pg_hba.conf", text("local all all trust\n"),
           FILE_KIND_EXTERNAL_CONFIG);

  collection::FrameEncoder encoder{collection::Compression{}};
  collection::PackBuilder builder(kPackBytes);
  std::uint32_t number = 1;
  std::size_t used = 0;
  std::vector<std::uint32_t> superseded;
  const auto put = [&] {
    if (builder.empty()) return;
    const auto summary = builder.finish();
    store_.put(pack(number), builder.bytes(), storage::PutMode::OnlyIfAbsent, Stop::never());
    auto& out = *manifest_.add_packs();
    collection::store_summary(summary, out);
    out.mutable_superseded()->Add(superseded.begin(), superseded.end());
    superseded.clear();
    builder.reset(++number, uuid_of(manifest_));
    used = 0;
  };
  builder.reset(number, uuid_of(manifest_));
  // A frame that a later one replaced, as after a backup was resumed.
  const Bytes old = random_bytes(kFrameBytes, 99);
  builder.add(encoder, 2, 0, old);
  superseded.push_back(0);
  for (const auto& file : manifest_.files()) {
    const Bytes& bytes = content_[file.path()];
    for (std::size_t offset = 0; offset < bytes.size(); offset += kFrameBytes) {
      const auto frame = ByteView(bytes).subspan(
          offset, std::min<std::size_t>(kFrameBytes, bytes.size() - offset));
      used +=
          builder.add(encoder, file.id(), static_cast<std::uint32_t>(offset / kFrameBytes), frame)
              .stored_bytes;
      if (used > kPackBytes) put();
    }
  }
  put();

  const Bytes wal = wal_of(system_identifier);
  content_["pg_wal/000000010000000000000005"] = wal;
  collection::put_wal_segment(
      store_,
      {.system_identifier = system_identifier,
       .timeline = 1,
       .segment = 5,
       .segment_bytes = kWalBytes},
      [&](std::uint64_t offset, MutableByteView into) {
        std::copy_n(wal.begin() + static_cast<std::ptrdiff_t>(offset), into.size(), into.begin());
      },
      {}, Stop::never());
  auto& segment = *manifest_.add_wal();
  segment.set_timeline(1);
  segment.set_segment(5);
  publish();
}

std::string RestoreLab::pack(std::uint32_t number) const {
  return collection::pack_key(kSubdirectory, number);
}

void RestoreLab::add_incremental(unsigned seed) {
  using collection::proto::FILE_KIND_CONTROL;
  using collection::proto::FILE_KIND_RELATION;
  const auto before = manifest_;
  const std::uint32_t next_id = collection::next_file_id(before);
  directory_ = collection::incremental_directory(
      kSubdirectory, *parse_timestamp("2026-11-21 00:00:00+00") + std::chrono::minutes(seed));
  manifest_.set_type(collection::proto::BACKUP_TYPE_INCREMENTAL);
  manifest_.set_subdirectory(directory_);
  manifest_.set_full(std::string(kSubdirectory));
  manifest_.mutable_base()->set_directory(before.subdirectory());
  manifest_.mutable_base()->set_backup_uuid(before.backup_uuid());
  manifest_.set_backup_uuid(fmt::format("{:016}", seed));
  manifest_.clear_packs();
  manifest_.clear_files();
  manifest_.set_plain_bytes(0);

  std::mt19937 random(seed);
  collection::FrameEncoder encoder{collection::Compression{}};
  collection::PackBuilder builder(kPackBytes);
  builder.reset(1, uuid_of(manifest_));
  std::uint32_t id = next_id;
  const auto store_file = [&](const std::string& path, std::uint32_t file_id,
                              const std::vector<bool>* changed, collection::proto::FileKind kind) {
    const Bytes& bytes = content_.at(path);
    auto& file = *manifest_.add_files();
    file.set_id(file_id);
    file.set_path(path);
    file.set_size(bytes.size());
    file.set_mode(0640);
    file.set_kind(kind);
    manifest_.set_plain_bytes(manifest_.plain_bytes() + bytes.size());
    for (std::size_t offset = 0; offset < bytes.size(); offset += kFrameBytes) {
      const auto frame = static_cast<std::uint32_t>(offset / kFrameBytes);
      const auto whole = ByteView(bytes).subspan(
          offset, std::min<std::size_t>(kFrameBytes, bytes.size() - offset));
      if (changed == nullptr) {
        builder.add(encoder, file_id, frame, whole);
        continue;
      }
      collection::FrameBlocks blocks;
      Bytes plain;
      for (std::size_t block = 0; block * kBlock < whole.size(); ++block) {
        if (!(*changed)[offset / kBlock + block]) continue;
        blocks.set(block);
        const auto one = whole.subspan(block * kBlock, kBlock);
        plain.insert(plain.end(), one.begin(), one.end());
      }
      if (blocks.any()) builder.add_partial(encoder, file_id, frame, blocks, plain);
    }
  };

  for (const auto& old : before.files()) {
    const bool gone = old.path() == "base/5/1003";
    if (gone) {
      content_.erase(old.path());
    } else if (old.kind() == FILE_KIND_CONTROL) {
      store_file(old.path(), id++, nullptr, old.kind());
    } else if (old.path() == "postgresql.conf") {
      content_[old.path()] = text(fmt::format("port = {}\n", 5000 + seed));
      store_file(old.path(), old.id(), nullptr, old.kind());
    } else if (old.path() == "base/5/1001") {
      content_[old.path()] = random_bytes(kFrameBytes + 3 * kBlock, seed);  // created anew
      store_file(old.path(), id++, nullptr, old.kind());
    } else if (old.path() == "base/5/1000" || old.path().starts_with("pg_tblspc/")) {
      Bytes& bytes = content_[old.path()];
      const std::size_t blocks = bytes.size() / kBlock;
      const std::size_t now = blocks - 5 + random() % 12;
      // Zeros, too, which nothing is stored of.
      const bool zeros = seed % 4 == 3 && old.path() != "base/5/1000";
      const Bytes fresh = zeros ? Bytes(now * kBlock) : random_bytes(now * kBlock, seed + 1);
      const unsigned one_of = seed % 3 == 2 ? 2 : 16;
      bytes.resize(now * kBlock);
      std::vector<bool> changed(now);
      for (std::size_t block = 0; block < now; ++block) {
        changed[block] = block >= blocks || random() % one_of == 0;
        if (!changed[block]) continue;
        std::copy_n(fresh.begin() + static_cast<std::ptrdiff_t>(block * kBlock), kBlock,
                    bytes.begin() + static_cast<std::ptrdiff_t>(block * kBlock));
      }
      store_file(old.path(), old.id(), &changed, old.kind());
    } else {
      const std::vector<bool> none((old.size() + kBlock - 1) / kBlock);
      store_file(old.path(), old.id(), &none, old.kind());
    }
  }
  const std::string added = fmt::format("base/5/{}", 3000 + seed);
  content_[added] = random_bytes(2 * kBlock, seed + 2);
  store_file(added, id++, nullptr, FILE_KIND_RELATION);
  manifest_.set_next_file_id(id);

  collection::store_summary(builder.finish(), *manifest_.add_packs());
  store_.put(collection::pack_key(directory_, 1), builder.bytes(), storage::PutMode::OnlyIfAbsent,
             Stop::never());
  publish();
}

void RestoreLab::publish() {
  store_.remove(collection::manifest_key(directory_), Stop::never());
  collection::write_manifest(store_, directory_, manifest_, Stop::never());
}

proto::RestoreJobSpec RestoreLab::in_place() {
  proto::RestoreJobSpec spec;
  spec.set_collection_uri("memory:///");
  spec.set_subdirectory(directory_);
  spec.set_workers(2);
  return spec;
}

proto::RestoreJobSpec RestoreLab::elsewhere(const std::string& name) {
  proto::RestoreJobSpec spec = in_place();
  spec.set_data_directory(path(name));
  return spec;
}

void RestoreLab::resume(LabJob& job) {
  RestoreJob({.open_store = [this](const std::string&, const storage::StoreAccess&,
                                   const Stop&) -> std::unique_ptr<storage::ObjectStore> {
                return std::make_unique<BorrowedStore>(store_);
              },
              .instance = &instance_,
              .is_unfinished = [this](jobs::JobId id) { return unfinished.contains(id); },
              .files = &files_})
      .resume(job);
}

void RestoreLab::revert(LabJob& job) {
  RestoreJob({.open_store = {}, .instance = &instance_, .is_unfinished = {}, .files = &files_})
      .revert(job);
}

void RestoreLab::make_live() {
  write_file(path("live/PG_VERSION"), "15\n");
  write_file(path("live/old"), "the old one");
  const Bytes control = postgres::testing::test_data("pg_control_15.bin");
  write_file(path("live/global/pg_control"), as_text(control));
  write_file(path("space/PG_15_202209061/5/old"), "the old tablespace");
  instance_.runs = true;
}

void RestoreLab::expect_restored(const std::string& directory, const std::string& tablespace) {
  std::size_t files = 0;
  for (const auto& [name, bytes] : content_) {
    std::string place = directory + "/" + name;
    if (name.starts_with("/")) place = directory + "/holdfast_external_config" + name;
    const Bytes found = read_file(place);
    if (name == "postgresql.auto.conf") {
      EXPECT_EQ(without_recovery_settings(as_text(found)), as_text(bytes));
    } else {
      EXPECT_TRUE(found == bytes) << name;
    }
    struct stat status {};
    ASSERT_EQ(::stat(place.c_str(), &status), 0) << place;
    EXPECT_EQ(status.st_mode & 07777, 0640U) << name;
    if (!name.starts_with("pg_tblspc/")) ++files;
  }
  EXPECT_EQ(std::filesystem::read_symlink(directory + "/pg_tblspc/16400"), tablespace);
  struct stat status {};
  ASSERT_EQ(::stat(directory.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0750U);
  // backup_label, tablespace_map, recovery.signal, and that the WAL segment is archived.
  std::size_t found = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (entry.is_regular_file()) ++found;
  }
  EXPECT_EQ(found, files + 4);
  std::vector<std::string> inside;
  for (const auto& entry : std::filesystem::directory_iterator(tablespace)) {
    if (entry.path().string().find(".before-restore-") == std::string::npos) {
      inside.push_back(entry.path().filename());
    }
  }
  EXPECT_EQ(inside, std::vector<std::string>{"PG_15_202209061"});
}

std::vector<std::string> RestoreLab::names(const std::string& directory) const {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(path(directory))) {
    found.push_back(entry.path().filename());
  }
  std::ranges::sort(found);
  return found;
}

}  // namespace holdfast::restore::testing
