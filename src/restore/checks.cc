#include "restore/checks.h"

#include <fmt/core.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>

#include "base/error.h"
#include "base/worker_pool.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/scope.h"
#include "collection/wal_archive.h"
#include "collection/wal_tail.h"
#include "io/file.h"
#include "postgres/lsn.h"
#include "postgres/versions.h"
#include "restore/marker.h"

namespace holdfast::restore {
namespace {

using collection::proto::Manifest;

/// Bytes of a sector in st_blocks, whatever the file system's block size. Source: stat(2).
constexpr std::uint64_t kStatBlockBytes = 512;

std::string nearest_existing(std::string path) {
  while (!path_exists(path) && path != "/" && path != ".") path = io::parent_of(path);
  return path;
}

std::uint64_t missing_bytes(const FileTarget& file) {
  struct stat status {};
  if (::lstat(file.path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return file.size;
  const std::uint64_t there = static_cast<std::uint64_t>(status.st_blocks) * kStatBlockBytes;
  return file.size - std::min(file.size, there);
}

bool readable(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0;
}

}  // namespace

std::vector<Manifest> read_restorable_chain(storage::ObjectStore& store,
                                            const std::string& directory, const Stop& stop) {
  if (!store.stat(collection::manifest_key(directory), stop)) {
    throw Error(sqlstate::kUndefinedFile, fmt::format("backup \"{}\" does not exist in \"{}\"",
                                                      directory, store.description()))
        .hint("List the finished backups with SHOW BACKUPS IN.");
  }
  auto chain =
      collection::read_chain(store, directory, stop, collection::LowerLayers::WithoutLists);
  const Manifest& target = chain.back();
  if (target.scope() != collection::proto::SCOPE_CLUSTER && !collection::is_scoped(target)) {
    throw Error(
        sqlstate::kFeatureNotSupported,
        fmt::format("backup \"{}\" has a scope that this holdfast does not know", directory));
  }
  const auto controls = std::ranges::count(target.files(), collection::proto::FILE_KIND_CONTROL,
                                           &collection::proto::File::kind);
  if (controls != 1) {
    throw Error(sqlstate::kDataCorrupted,
                fmt::format("backup \"{}\" has {} control files", directory, controls));
  }
  if (!postgres::valid_wal_segment_bytes(target.instance().wal_segment_bytes())) {
    throw Error(sqlstate::kDataCorrupted,
                fmt::format("backup \"{}\" has an impossible WAL segment size", directory));
  }
  return chain;
}

std::vector<Manifest> read_cluster_chain(storage::ObjectStore& store, const std::string& directory,
                                         const Stop& stop) {
  auto chain = read_restorable_chain(store, directory, stop);
  if (chain.back().scope() != collection::proto::SCOPE_CLUSTER) {
    throw Error(sqlstate::kInvalidParameterValue,
                "full cluster RESTORE can only be used on full cluster BACKUP files");
  }
  return chain;
}

void check_version(const Manifest& manifest, int binaries_major) {
  const int major = postgres::major_of(static_cast<int>(manifest.instance().server_version_num()));
  if (binaries_major == 0 || major == binaries_major) return;
  if (major > binaries_major) {
    throw Error(sqlstate::kFeatureNotSupported,
                fmt::format("backup from version {} is newer than current version {}", major,
                            binaries_major))
        .hint(fmt::format("Install PostgreSQL {} and start holdfast with --pg-bin.", major));
  }
  throw Error(sqlstate::kFeatureNotSupported,
              fmt::format("backup from version {} is older than the minimum restorable version {}",
                          major, binaries_major))
      .detail("PostgreSQL reads data files of its own major version only.")
      .hint(fmt::format(
          "Restore with PostgreSQL {} (holdfast start --pg-bin), then use pg_upgrade.", major));
}

namespace {

void check_pack(storage::ObjectStore& store, const std::string& directory,
                const collection::proto::Pack& pack, const Stop& stop) {
  const auto key = collection::pack_key(directory, pack.number());
  const auto found = store.stat(key, stop);
  if (!found) {
    throw Error(sqlstate::kUndefinedFile, fmt::format("object \"{}\" does not exist", key))
        .detail("The backup is incomplete. Nothing was written.");
  }
  if (found->size != pack.size()) {
    throw Error(sqlstate::kDataCorrupted, fmt::format("object \"{}\" has {} bytes instead of {}",
                                                      key, found->size, pack.size()))
        .detail("The backup is damaged. Nothing was written.");
  }
}

void check_wal_segment(storage::ObjectStore& store, const Manifest& manifest,
                       const collection::proto::WalSegment& wal, bool may_be_tail,
                       const Stop& stop) {
  const collection::WalSegmentId id = collection::wal_segment_of(manifest, wal);
  if (collection::stat_wal_segment(store, id, stop)) return;
  if (may_be_tail && !collection::list_wal_tails(store, id, stop).empty()) return;
  throw Error(sqlstate::kUndefinedFile,
              fmt::format("WAL object \"{}\" of the backup is missing in {}",
                          collection::wal_segment_key(id), store.description()))
      .detail("The backup is incomplete. Nothing was written.");
}

}  // namespace

void check_objects(storage::ObjectStore& store, std::span<const Manifest> chain, WalBehind behind,
                   std::size_t workers, const Stop& stop) {
  const bool wal_behind = behind == WalBehind::Yes;
  struct Object {
    const Manifest* layer;
    const collection::proto::Pack* pack;  // one of these two
    const collection::proto::WalSegment* wal;
  };
  std::vector<Object> objects;
  for (const Manifest& layer : chain) {
    for (const auto& pack : layer.packs()) objects.push_back({&layer, &pack, nullptr});
  }
  for (const auto& wal : chain.back().wal()) objects.push_back({&chain.back(), nullptr, &wal});

  std::atomic<std::size_t> next = 0;
  run_workers(workers, stop, [&](std::size_t, const Stop& worker_stop) {
    for (std::size_t i = next++; i < objects.size(); i = next++) {
      worker_stop.check();
      const Object& object = objects[i];
      if (object.pack != nullptr) {
        check_pack(store, object.layer->subdirectory(), *object.pack, worker_stop);
      } else {
        check_wal_segment(store, *object.layer, *object.wal, wal_behind && i + 1 == objects.size(),
                          worker_stop);
      }
    }
  });
}

void check_space(const Layout& layout, const Manifest& manifest) {
  struct Need {
    std::string directory;
    std::uint64_t bytes = 0;
  };
  std::map<dev_t, Need> needs;
  std::map<std::string, dev_t> devices;
  const auto device_of = [&](const std::string& root) {
    const auto found = devices.find(root);
    if (found != devices.end()) return found->second;
    const std::string existing = nearest_existing(root);
    struct stat status {};
    if (::stat(existing.c_str(), &status) != 0) {
      throw_errno(fmt::format("read directory \"{}\"", existing));
    }
    needs[status.st_dev].directory = existing;
    return devices[root] = status.st_dev;
  };
  for (const auto& file : layout.files) {
    const std::string* root = &layout.root;
    for (const auto& space : layout.tablespaces) {
      if (!space.inside && file.path.starts_with(space.build + "/")) root = &space.build;
    }
    needs[device_of(*root)].bytes += missing_bytes(file);
  }
  needs[device_of(layout.root)].bytes +=
      static_cast<std::uint64_t>(manifest.wal_size()) * manifest.instance().wal_segment_bytes();
  for (const auto& [device, need] : needs) {
    struct statvfs room {};
    if (::statvfs(need.directory.c_str(), &room) != 0) {
      throw_errno(fmt::format("read free space of \"{}\"", need.directory));
    }
    const std::uint64_t available = std::uint64_t{room.f_bavail} * room.f_frsize;
    if (available >= need.bytes) continue;
    throw Error(sqlstate::kDiskFull,
                fmt::format("not enough free space for the restore in \"{}\"", need.directory))
        .detail(fmt::format("{} bytes are needed, {} bytes are available. Nothing was written.",
                            need.bytes, available));
  }
}

void check_external_config(const Manifest& manifest) {
  const auto inside =
      std::ranges::find(manifest.files(), "postgresql.conf", &collection::proto::File::path);
  if (inside != manifest.files().end()) return;
  for (const auto& file : manifest.files()) {
    if (file.kind() != collection::proto::FILE_KIND_EXTERNAL_CONFIG ||
        !file.path().ends_with("/postgresql.conf") || readable(file.path())) {
      continue;
    }
    throw Error(sqlstate::kConfigFileError,
                fmt::format("configuration file \"{}\" does not exist on this host", file.path()))
        .detail(
            "The server that was backed up kept its configuration outside its data directory, and "
            "cannot be started without it.")
        .hint(fmt::format(
            "Put the configuration in place (on Debian: pg_createcluster), then run RESTORE again. "
            "RESTORE WITH data_directory lays out the backed-up files in {}.",
            kExternalConfigDirectory));
  }
}

}  // namespace holdfast::restore
