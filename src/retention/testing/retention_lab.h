#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backup/backup_job.h"
#include "base/clock.h"
#include "base/error.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/incremental_location.h"
#include "collection/wal_archive.h"
#include "jobs/registry.h"
#include "retention/retention_job.h"
#include "state/database.h"
#include "storage/fault_store.h"
#include "storage/memory_store.h"

namespace holdfast::retention::testing {

class SetClock final : public Clock {
 public:
  Time now() const override { return now_; }
  void set(Time now) { now_ = now; }
  void advance(std::chrono::microseconds by) { now_ += by; }

 private:
  Time now_ = std::chrono::sys_days(std::chrono::November / 1 / 2026);
};

/// One store for everybody who opens the collection.
class SharedStore final : public storage::ObjectStore {
 public:
  explicit SharedStore(storage::ObjectStore& store) : store_(store) {}
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

/// A DELETE BACKUPS job with a row in the registry, whose attempts the test makes. Pause points
/// call `at_point`.
class LabJob final : public jobs::JobContext {
 public:
  LabJob(jobs::Registry& registry, jobs::JobId id)
      : registry_(registry), id_(id), specification_(registry.specification(id)) {}

  std::function<void(std::string_view point)> at_point = [](std::string_view) {};

  jobs::JobId id() const override { return id_; }
  ByteView specification() const override { return specification_; }
  const Stop& stop() const override { return stop_; }
  std::optional<Bytes> checkpoint() const override { return registry_.checkpoint(id_); }
  void save_checkpoint(ByteView bytes) override { registry_.save_checkpoint(id_, bytes); }
  void report(const jobs::Progress&) override {}
  void set_result_rows(std::int64_t rows) override { rows_ = rows; }
  void notice(std::string_view) override {}
  void pause_point(std::string_view name) override { at_point(name); }

  std::int64_t rows() const { return rows_; }

 private:
  jobs::Registry& registry_;
  const jobs::JobId id_;
  const Bytes specification_;
  Stop stop_ = Stop::never();
  std::int64_t rows_ = 0;
};

/// A collection in memory, with fulls and incrementals that are small but whole, a clock, and a
/// registry of jobs.
class RetentionLab : public backup::StoreOpener {
 public:
  static constexpr std::uint64_t kSegmentBytes = 1U << 20;
  static constexpr std::uint64_t kSystem = 42;

  RetentionLab() {
    std::string name =
        (std::filesystem::temp_directory_path() / "holdfast-retention-XXXXXX").string();
    directory_ = mkdtemp(name.data());
    database_ = std::make_unique<state::Database>(directory_);
    registry_ = std::make_unique<jobs::Registry>(*database_, 3, clock);
  }
  ~RetentionLab() override {
    registry_.reset();
    database_.reset();
    std::filesystem::remove_all(directory_);
  }

  SetClock clock;
  storage::FaultStore store{std::make_unique<storage::MemoryStore>()};

  /// What jobs see of the store.
  std::function<std::unique_ptr<storage::ObjectStore>()> open = [this] {
    return std::make_unique<SharedStore>(store);
  };

  /// Another place for incremental layers, "memory://elsewhere".
  storage::MemoryStore elsewhere{"memory://elsewhere"};
  /// Both places, for a test to write into.
  std::unique_ptr<collection::LocatedStore> both() {
    return std::make_unique<collection::LocatedStore>(std::make_unique<SharedStore>(store),
                                                      std::make_unique<SharedStore>(elsewhere), "");
  }

  std::unique_ptr<storage::ObjectStore> open_store(std::string_view uri,
                                                   const storage::StoreAccess&) override {
    if (uri == elsewhere.description()) return std::make_unique<SharedStore>(elsewhere);
    return open();
  }
  jobs::Registry& registry() { return *registry_; }
  RetentionEnvironment environment() { return {.stores = this, .registry = registry_.get()}; }

  /// A full that begins and ends now; WAL segments `first` to `last` are its own.
  std::string full(std::uint64_t first, std::uint64_t last, std::uint32_t timeline = 1) {
    clock.advance(std::chrono::seconds(1));
    const std::string directory = collection::subdirectory_for(clock.now());
    write(store, directory, std::nullopt, {first, last, timeline});
    collection::write_latest(store, directory, clock.now(), stop_);
    return directory;
  }
  /// A full of an earlier moment, made now, with a segment of its own.
  std::string full_of_the_past(Time moment, std::uint64_t segment) {
    clock.advance(std::chrono::seconds(1));
    const std::string directory = collection::subdirectory_for(moment);
    const Time now = clock.now();
    clock.set(moment);
    write(store, directory, std::nullopt, {segment, segment, 1});
    clock.set(now);
    return directory;
  }
  /// A full of one database alone, which keeps its WAL itself.
  std::string full_of_database(std::uint64_t first, std::uint64_t last) {
    clock.advance(std::chrono::seconds(1));
    const std::string directory = collection::subdirectory_for(clock.now());
    write(store, directory, std::nullopt,
          {.first = first, .last = last, .timeline = 1, .directory = directory + "/wal/own"});
    return directory;
  }
  /// An incremental layer on the newest of the full's.
  std::string incremental(const std::string& full, std::uint64_t first, std::uint64_t last) {
    return incremental(store, full, first, last);
  }
  std::string incremental(storage::ObjectStore& into, const std::string& full, std::uint64_t first,
                          std::uint64_t last) {
    clock.advance(std::chrono::seconds(1));
    const auto layers = collection::list_layers(into, full, stop_);
    const std::string directory = collection::incremental_directory(full, clock.now());
    write(into, directory, collection::read_manifest(into, layers.back(), stop_), {first, last, 1});
    return directory;
  }
  void put(const std::string& key) {
    store.put(key, as_bytes("x"), storage::PutMode::OnlyIfAbsent, stop_);
  }
  collection::WalSegmentId wal_id(std::uint64_t segment, std::uint32_t timeline = 1) const {
    return {.system_identifier = kSystem,
            .timeline = timeline,
            .segment = segment,
            .segment_bytes = kSegmentBytes};
  }
  void put_wal(std::uint64_t segment, std::uint32_t timeline = 1,
               const std::string& directory = {}) {
    const auto read = [](std::uint64_t, MutableByteView into) {
      std::ranges::fill(into, std::byte{7});
    };
    collection::WalSegmentId id = wal_id(segment, timeline);
    id.directory = directory;
    collection::put_wal_segment(store, id, read, {}, stop_);
  }
  std::vector<std::uint64_t> wal(std::uint32_t timeline = 1) {
    return collection::list_wal_segments(store, kSystem, timeline, kSegmentBytes, stop_);
  }

  /// Keys below `prefix`, sorted.
  std::vector<std::string> objects(const std::string& prefix = "") {
    std::vector<std::string> keys;
    store.list(
        prefix, [&](const storage::ObjectInfo& info) { keys.push_back(info.key); }, stop_);
    std::ranges::sort(keys);
    return keys;
  }
  std::vector<std::string> fulls() { return collection::list_fulls(store, stop_); }
  std::string latest() { return collection::resolve_latest(store, stop_); }

  /// What cannot be restored although it is listed. LATEST must name a full that is listed.
  std::vector<std::string> broken() {
    std::vector<std::string> problems;
    for (const std::string& full : fulls()) {
      for (const std::string& layer : collection::list_layers(store, full, stop_)) {
        try {
          const auto chain = collection::read_chain(store, layer, stop_);
          for (const auto& problem : collection::check_files(store, chain, stop_)) {
            problems.push_back(problem.key + ": " + problem.problem);
          }
        } catch (const Error& error) {
          problems.push_back(layer + ": " + error.message());
        }
      }
    }
    const auto all = fulls();
    if (!all.empty() && std::ranges::find(all, latest()) == all.end()) {
      problems.push_back("LATEST names " + latest());
    }
    return problems;
  }

  proto::RetentionJobSpec older_than(Time moment) {
    proto::RetentionJobSpec spec;
    spec.set_collection_uri("memory://");
    spec.set_older_than_us(moment.time_since_epoch().count());
    return spec;
  }
  proto::RetentionJobSpec keep(std::uint32_t fulls) {
    proto::RetentionJobSpec spec;
    spec.set_collection_uri("memory://");
    spec.set_keep_fulls(fulls);
    return spec;
  }
  template <typename Spec>
  jobs::JobId create_job(std::string_view type, const Spec& spec) {
    const std::string bytes = spec.SerializeAsString();
    const auto id =
        registry_->create({.type = std::string(type),
                           .specification = Bytes(as_bytes(bytes).begin(), as_bytes(bytes).end())});
    registry_->move(id, jobs::JobStatus::Running);
    return id;
  }
  jobs::JobId create(const proto::RetentionJobSpec& spec) {
    return create_job(jobs::kDeleteBackupsType, spec);
  }
  void resume(LabJob& job) { RetentionJob(environment()).resume(job); }
  void revert(LabJob& job) { RetentionJob(environment()).revert(job); }
  /// A whole job; its rows by subdirectory, as "action: reason".
  std::map<std::string, std::string> run(const proto::RetentionJobSpec& spec) {
    LabJob job(*registry_, create(spec));
    resume(job);
    registry_->succeed(job.id(), job.rows());
    return rows(job.id());
  }
  std::map<std::string, std::string> rows(jobs::JobId id) {
    proto::RetentionCheckpoint checkpoint;
    const auto bytes = registry_->checkpoint(id);
    if (bytes) checkpoint.ParseFromArray(bytes->data(), static_cast<int>(bytes->size()));
    std::map<std::string, std::string> rows;
    for (const auto& row : checkpoint.rows()) {
      EXPECT_FALSE(rows.contains(row.subdirectory()));
      rows[row.subdirectory()] = row.action() + ": " + row.reason();
    }
    return rows;
  }
  void forbid_removals(const std::string& pattern) {
    store.add({.call = storage::StoreCall::Remove,
               .key_pattern = pattern,
               .times = 1000000,
               .error = Error(sqlstate::kInsufficientPrivilege, "object is locked")});
  }

 private:
  struct Wal {
    std::uint64_t first;
    std::uint64_t last;
    std::uint32_t timeline;
    std::string directory{};  ///< of a backup of a database; empty: the archive's
  };

  void write(storage::ObjectStore& into, const std::string& directory,
             const std::optional<collection::proto::Manifest>& base, const Wal& wal) {
    using collection::proto::Manifest;
    Manifest manifest;
    manifest.set_subdirectory(directory);
    const std::uint64_t number = ++written_;
    std::string uuid(16, 'u');
    for (std::size_t i = 0; i < 8; ++i) uuid[i] = static_cast<char>('a' + (number >> (4 * i)) % 16);
    manifest.set_backup_uuid(uuid);
    manifest.set_type(base ? collection::proto::BACKUP_TYPE_INCREMENTAL
                           : collection::proto::BACKUP_TYPE_FULL);
    manifest.mutable_instance()->set_system_identifier(kSystem);
    manifest.mutable_instance()->set_wal_segment_bytes(kSegmentBytes);
    if (base) {
      manifest.set_full(base->full().empty() ? base->subdirectory() : base->full());
      manifest.mutable_base()->set_directory(base->subdirectory());
      manifest.mutable_base()->set_backup_uuid(base->backup_uuid());
    }
    const std::int64_t now = clock.now().time_since_epoch().count();
    manifest.set_start_time_us(now);
    manifest.set_end_time_us(now);
    manifest.mutable_start()->set_timeline(wal.timeline);
    manifest.mutable_start()->set_position(wal.first * kSegmentBytes + 40);
    manifest.mutable_stop()->set_timeline(wal.timeline);
    manifest.mutable_stop()->set_position((wal.last + 1) * kSegmentBytes);
    for (std::uint64_t segment = wal.first; segment <= wal.last; ++segment) {
      put_wal(segment, wal.timeline, wal.directory);
      auto& named = *manifest.add_wal();
      named.set_timeline(wal.timeline);
      named.set_segment(segment);
    }
    if (!wal.directory.empty()) {
      manifest.set_scope(collection::proto::SCOPE_DATABASES);
      manifest.set_wal_directory(wal.directory);
      auto& database = *manifest.add_scope_databases();
      database.set_oid(5);
      database.set_name("shop");
    }
    auto& file = *manifest.add_files();
    file.set_id(1);
    file.set_path("base/5/16384");
    file.set_size(8192);
    file.set_kind(collection::proto::FILE_KIND_RELATION);
    collection::BackupUuid id{};
    std::copy_n(as_bytes(uuid).begin(), id.size(), id.begin());
    collection::PackBuilder pack(1U << 20);
    collection::FrameEncoder encoder(collection::Compression{});
    pack.reset(1, id);
    const Bytes plain(8192, static_cast<std::byte>(number));
    if (base) {
      collection::FrameBlocks blocks;
      blocks.set(0);
      pack.add_partial(encoder, 1, 0, blocks, plain);
    } else {
      pack.add(encoder, 1, 0, plain);
    }
    collection::store_summary(pack.finish(), *manifest.add_packs());
    into.put(collection::pack_key(directory, 1), pack.bytes(), storage::PutMode::OnlyIfAbsent,
             stop_);
    collection::write_manifest(into, directory, manifest, stop_);
  }

  std::string directory_;
  std::unique_ptr<state::Database> database_;
  std::unique_ptr<jobs::Registry> registry_;
  std::uint64_t written_ = 0;
  Stop stop_ = Stop::never();
};

}  // namespace holdfast::retention::testing
