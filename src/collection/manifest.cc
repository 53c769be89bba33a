#include <fmt/format.h>

#include <chrono>

#include "base/delayed_stop.h"
#include "base/error.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/envelope_internal.h"
#include "collection/format.h"
#include "collection/manifest_internal.h"
#include "collection/scope.h"

namespace holdfast::collection {

namespace {

using storage::ObjectKey;
using storage::ObjectStore;

/// How long a put of a manifest goes on when it should stop: well below what a service manager
/// waits for the daemon to end.
constexpr std::chrono::seconds kManifestPatience{10};

/// Whether a restore may put something at `path` below a directory that it owns.
bool stays_below(std::string_view path) {
  if (path.starts_with('/') || path.find('\0') != path.npos) return false;
  while (true) {
    const std::size_t slash = path.find('/');
    if (path.substr(0, slash) == "..") return false;
    if (slash == path.npos) return true;
    path.remove_prefix(slash + 1);
  }
}

/// What is wrong with a manifest that could lead a reader astray; empty when nothing is. A
/// checkpoint may lack what is known only at the end, but what it has must be right.
std::string find_problem(const proto::Manifest& manifest) {
  if (!manifest.backup_uuid().empty() && manifest.backup_uuid().size() != sizeof(BackupUuid)) {
    return "Its backup_uuid does not have 16 bytes.";
  }
  for (const proto::File& file : manifest.files()) {
    const bool external = file.kind() == proto::FILE_KIND_EXTERNAL_CONFIG;
    if (file.path().empty() || (!external && !stays_below(file.path()))) {
      return fmt::format("File {} has the path \"{}\".", file.id(), file.path());
    }
  }
  for (const proto::File& file : manifest.files()) {
    if (file.frame_hashes().size() % sizeof(Hash128) != 0) {
      return fmt::format("File {} has a checksum that is none.", file.id());
    }
  }
  for (const proto::Directory& directory : manifest.directories()) {
    if (!stays_below(directory.path())) {
      return fmt::format("A directory has the path \"{}\".", directory.path());
    }
  }
  if (!manifest.wal_directory().empty() &&
      (!stays_below(manifest.wal_directory()) ||
       !manifest.wal_directory().starts_with(
           fmt::format("{}/{}/", manifest.subdirectory(), kWalDirectory)))) {
    return fmt::format("Its WAL is in \"{}\".", manifest.wal_directory());
  }
  if (is_scoped(manifest) && manifest.scope_databases().empty()) {
    return "It does not say what its scope is.";
  }
  if (manifest.type() == proto::BACKUP_TYPE_INCREMENTAL &&
      (!parse_subdirectory(manifest.full()) || !is_layer_directory(manifest.base().directory()) ||
       manifest.base().backup_uuid().size() != sizeof(BackupUuid))) {
    return "It does not name the layer that it continues.";
  }
  if (manifest.has_history()) {
    const proto::Lsn& from = manifest.base().start();
    if (!is_scoped(manifest) || manifest.wal_directory().empty() || from.position() == 0 ||
        from.position() > manifest.base().stop().position() ||
        manifest.base().stop().position() > manifest.stop().position() ||
        from.timeline() != manifest.stop().timeline() ||
        manifest.instance().wal_segment_bytes() == 0 ||
        manifest.base().stop().timeline() != manifest.stop().timeline()) {
      return "Its history does not lead from the layer that it continues.";
    }
  }
  if (manifest.has_recovery_target()) {
    const proto::RecoveryTarget& target = manifest.recovery_target();
    if (target.timeline() == 0 || target.record() == 0 || target.end() <= target.record() ||
        target.end() != manifest.stop().position()) {
      return "Its recovery target is not its end.";
    }
  }
  for (const proto::Pack& pack : manifest.packs()) {
    if (pack.index_hash().size() != 16 || pack.size() > storage::kMaxObjectBytes ||
        pack.index_offset() < kPackHeaderBytes || pack.index_offset() > pack.size() ||
        pack.frames() > kMaxPackFrames) {
      return fmt::format("Pack {} has lengths that do not agree.", pack.number());
    }
    for (const std::uint32_t position : pack.superseded()) {
      if (position >= pack.frames()) {
        return fmt::format("Pack {} has no frame {} that could be superseded.", pack.number(),
                           position);
      }
    }
  }
  return {};
}

std::uint32_t version_of(const proto::Manifest& manifest) {
  if (is_scoped(manifest)) return kScopedFormatVersion;
  if (manifest.has_recovery_target()) return kRecoveryTargetFormatVersion;
  return manifest.type() == proto::BACKUP_TYPE_INCREMENTAL ? kChainFormatVersion
                                                           : kPlainFormatVersion;
}

}  // namespace

Bytes encode_manifest(const proto::Manifest& manifest, std::string_view object) {
  if (const std::string problem = find_problem(manifest); !problem.empty()) {
    throw Error(sqlstate::kInternalError, fmt::format("cannot write \"{}\"", object))
        .detail(problem);
  }
  proto::Manifest versioned;
  const proto::Manifest* written = &manifest;
  const std::uint32_t version = version_of(manifest);
  if (manifest.format_version() != version) {
    versioned = manifest;
    versioned.set_format_version(version);
    written = &versioned;
  }
  // protobuf's own limit is 2 GiB; SerializeAsString aborts beyond.
  if (written->ByteSizeLong() > kMaxManifestBytes) {
    throw Error(sqlstate::kFeatureNotSupported,
                fmt::format("\"{}\" would be larger than {} bytes", object, kMaxManifestBytes))
        .detail("The backup has more files than one manifest can list.");
  }
  const std::string plain = written->SerializeAsString();
  Bytes sealed = seal_envelope(as_bytes(plain), version);
  // What no reader would take must not be written.
  if (memory_of_manifest(as_bytes(plain)) > kMaxManifestMemory ||
      plain.size() > most_plain_bytes(sealed.size() - kEnvelopeHeaderBytes)) {
    throw Error(sqlstate::kFeatureNotSupported,
                fmt::format("\"{}\" would have more entries than a manifest may", object))
        .detail("The backup has more files and objects than one manifest can list.");
  }
  return sealed;
}

proto::Manifest decode_manifest(ByteView stored, std::string_view object) {
  const Bytes plain = open_envelope(stored, object);
  proto::Manifest manifest;
  const auto corrupt = [&](std::string why) {
    return Error(sqlstate::kDataCorrupted, fmt::format("\"{}\" is corrupt", object))
        .detail(std::move(why));
  };
  if (memory_of_manifest(plain) > kMaxManifestMemory) {
    throw corrupt("It has more entries than a manifest may.");
  }
  if (!manifest.ParseFromArray(plain.data(), static_cast<int>(plain.size()))) {
    throw corrupt("It is not a manifest.");
  }
  check_version(manifest.format_version(), object);
  if (std::string problem = find_problem(manifest); !problem.empty()) {
    throw corrupt(std::move(problem));
  }
  return manifest;
}

void check_place(const proto::Manifest& manifest, std::string_view directory) {
  if (manifest.subdirectory() == directory) return;
  throw Error(sqlstate::kDataCorrupted, fmt::format("\"{}\" is corrupt", manifest_key(directory)))
      .detail(fmt::format("It is the manifest of \"{}\".", manifest.subdirectory()));
}

std::optional<proto::Manifest> read_sealed(ObjectStore& store, const ObjectKey& key,
                                           const Stop& stop) {
  const std::optional<Bytes> stored = get_whole(store, key, storage::kMaxObjectBytes, stop);
  if (!stored) return std::nullopt;
  return decode_manifest(*stored, key);
}

std::optional<proto::Manifest> read_manifest(ObjectStore& store, std::string_view directory,
                                             const Stop& stop) {
  auto manifest = read_sealed(store, manifest_key(directory), stop);
  if (manifest) check_place(*manifest, directory);
  return manifest;
}

void write_manifest(ObjectStore& store, std::string_view directory, const proto::Manifest& manifest,
                    const Stop& stop) {
  stop.check();
  const ObjectKey key = manifest_key(directory);
  const DelayedStop delayed(stop, kManifestPatience);
  if (store.put(key, encode_manifest(manifest, key), storage::PutMode::OnlyIfAbsent,
                delayed.stop()) == storage::PutResult::Taken) {
    throw has_manifest(directory);
  }
}

Error has_manifest(std::string_view directory) {
  // CockroachDB's words (reference, section 3.2).
  return Error(sqlstate::kDuplicateFile,
               fmt::format("{} already contains a {} file", directory, kManifestName));
}

PackSummary summary_of(const proto::Pack& pack) {
  PackSummary summary{.number = pack.number(),
                      .size = pack.size(),
                      .index_offset = pack.index_offset(),
                      .index_hash = {},
                      .frames = pack.frames(),
                      .plain_bytes = pack.plain_bytes(),
                      .first_file = pack.first_file(),
                      .last_file = pack.last_file()};
  // Any other length is refused when the manifest is read.
  if (pack.index_hash().size() == 16) {
    summary.index_hash = hash_from_bytes(as_bytes(pack.index_hash()));
  }
  return summary;
}

void store_summary(const PackSummary& summary, proto::Pack& pack) {
  pack.set_number(summary.number);
  pack.set_size(summary.size);
  pack.set_index_offset(summary.index_offset);
  pack.set_index_hash(std::string(as_text(to_bytes(summary.index_hash))));
  pack.set_frames(summary.frames);
  pack.set_plain_bytes(summary.plain_bytes);
  pack.set_first_file(summary.first_file);
  pack.set_last_file(summary.last_file);
}

}  // namespace holdfast::collection
