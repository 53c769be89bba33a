#include "restore/partial_layout.h"

#include <fcntl.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "base/error.h"
#include "base/log.h"
#include "collection/wal_archive.h"
#include "collection/wal_recovery.h"
#include "io/file.h"
#include "postgres/lsn.h"
#include "postgres/relation_path.h"
#include "postgres/versions.h"
#include "postgres/wal_filter.h"

namespace holdfast::restore {
namespace {

using collection::proto::Manifest;

/// What all databases share, but for relations.
constexpr std::array<std::string_view, 5> kSharedPrefixes = {"global/", "pg_xact/", "pg_multixact/",
                                                             "pg_commit_ts/", "pg_subtrans/"};

std::optional<std::uint32_t> number(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// The database whose directory the path is, or lies in: base/5/… or pg_tblspc/16400/PG_…/5/….
std::optional<std::uint32_t> database_of(std::string_view path) {
  std::size_t skip = 0;
  if (path.starts_with("base/")) {
    skip = 1;
  } else if (path.starts_with("pg_tblspc/")) {
    skip = 3;
  } else {
    return std::nullopt;
  }
  for (; skip > 0; --skip) {
    const std::size_t slash = path.find('/');
    if (slash == std::string_view::npos) return std::nullopt;
    path.remove_prefix(slash + 1);
  }
  return number(path.substr(0, path.find('/')));
}

bool wanted(const collection::proto::File& file, const postgres::WalScope& scope) {
  if (file.kind() == collection::proto::FILE_KIND_EXTERNAL_CONFIG) return false;
  if (file.kind() == collection::proto::FILE_KIND_CONTROL) return true;
  const std::string_view path = file.path();
  if (const auto relation = postgres::parse_relation_path(path)) {
    return scope.wants(relation->relation);
  }
  if (const auto database = database_of(path)) return scope.wants_database(*database);
  return path == "PG_VERSION" || std::ranges::any_of(kSharedPrefixes, [&](std::string_view prefix) {
           return path.starts_with(prefix);
         });
}

}  // namespace

Layout make_partial_layout(const Manifest& manifest, const std::string& root,
                           const std::string& tablespaces, const postgres::WalScope& scope) {
  LayoutRequest request{.root = root, .final_root = root};
  for (const auto& space : manifest.tablespaces()) {
    if (!space.location().starts_with('/')) continue;
    auto& mapping = request.tablespace_mapping.emplace_back();
    mapping.set_from(std::to_string(space.oid()));
    mapping.set_to(fmt::format("{}/{}", tablespaces, space.oid()));
  }
  Layout layout = make_layout(manifest, request);
  layout.partial = true;
  // Whoever runs the workshop alone may look at it.
  layout.root_mode = 0700;
  std::vector<FileTarget> files;
  std::set<std::string> used;
  for (std::size_t i = 0; i < layout.files.size(); ++i) {
    if (!wanted(manifest.files(static_cast<int>(i)), scope)) continue;
    files.push_back(std::move(layout.files[i]));
    files.back().mode = 0600;
  }
  layout.files = std::move(files);
  std::erase_if(layout.directories, [&](const DirectoryTarget& directory) {
    if (!directory.path.starts_with(root + "/")) return false;
    const auto database = database_of(std::string_view(directory.path).substr(root.size() + 1));
    return database && !scope.wants_database(*database);
  });
  for (auto& directory : layout.directories) directory.mode = 0700;
  return layout;
}

void restore_scoped_wal(const Manifest& manifest, const proto::RecoveryTarget* target,
                        const Layout& layout, const postgres::WalScope& scope,
                        storage::ObjectStore& store, io::FileSystem& files, const Stop& stop) {
  const auto& instance = manifest.instance();
  const std::uint64_t bytes = instance.wal_segment_bytes();
  postgres::WalFilter filter(
      {.major = postgres::major_of(static_cast<int>(instance.server_version_num())),
       .wal_segment_bytes = bytes,
       .start = postgres::Lsn{manifest.start().position()},
       .end = postgres::Lsn{target != nullptr ? target->end() : manifest.stop().position()}},
      scope);
  UniqueFd fd;
  std::string path;
  std::uint64_t open_segment = 0;
  // Each segment's timeline; one behind the backup may be another than the backup's.
  std::map<std::uint64_t, std::uint32_t> timelines;
  for (const auto& wal : manifest.wal()) timelines[wal.segment()] = wal.timeline();
  const auto timeline_of = [&](std::uint64_t segment) {
    const auto found = timelines.find(segment);
    return found != timelines.end() ? found->second : manifest.stop().timeline();
  };
  const auto output = [&](postgres::Lsn position, ByteView pages) {
    while (!pages.empty()) {
      const std::uint64_t segment = position.value / bytes;
      const std::uint64_t offset = position.value % bytes;
      if (!fd || segment != open_segment) {
        path = fmt::format("{}/pg_wal/{}", layout.root,
                           postgres::wal_segment_name(timeline_of(segment), segment, bytes));
        fd = io::open_file(files, path, O_WRONLY | O_CREAT | O_EXCL, layout.file_mode());
        if (files.truncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
          throw_errno(fmt::format("set size of file \"{}\"", path));
        }
        open_segment = segment;
      }
      const auto now =
          static_cast<std::size_t>(std::min<std::uint64_t>(pages.size(), bytes - offset));
      io::pwrite_all(files, fd.get(), pages.first(now), offset, path);
      pages = pages.subspan(now);
      position.value += now;
    }
  };
  for (const auto& wal : manifest.wal()) {
    stop.check();
    const collection::WalSegmentId id{.system_identifier = instance.system_identifier(),
                                      .timeline = wal.timeline(),
                                      .segment = wal.segment(),
                                      .segment_bytes = bytes};
    bool found = false;
    if (target != nullptr && &wal == &*manifest.wal().rbegin()) {
      // The archive may have only its beginning, of any length.
      Bytes whole(bytes);
      const auto take = [&](std::uint64_t offset, ByteView content) {
        std::ranges::copy(content, whole.begin() + static_cast<std::ptrdiff_t>(offset));
      };
      found = collection::get_wal_or_tail(store, id, take, stop).has_value();
      if (found) filter.push(whole, output);
    } else {
      found = collection::get_wal_segment(
          store, id, [&](std::uint64_t, ByteView content) { filter.push(content, output); }, stop);
    }
    if (!found) {
      throw Error(sqlstate::kUndefinedFile,
                  fmt::format("WAL segment {} is missing in the collection",
                              postgres::wal_segment_name(wal.timeline(), wal.segment(), bytes)));
    }
  }
  filter.finish(output);
  log::info("WAL of the objects is ready: records={} replaced={}", filter.records(),
            filter.replaced());
}

}  // namespace holdfast::restore
