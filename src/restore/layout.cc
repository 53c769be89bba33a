#include "restore/layout.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>
#include <unordered_set>

#include "base/error.h"
#include "postgres/relation_path.h"
#include "postgres/versions.h"
#include "restore/tablespace_mapping.h"

namespace holdfast::restore {
namespace {

using collection::proto::Manifest;

constexpr std::string_view kTablespacePrefix = "pg_tblspc/";

/// The permissions that PostgreSQL itself gives, whatever the manifest says: nothing for the world,
/// no set-user-ID, and group access to all or to nothing, as the data directory has it.
/// Source: PostgreSQL src/include/common/file_perm.h, src/common/file_perm.c.
constexpr mode_t kGroupDirectory = 0050;
constexpr mode_t kGroupFile = 0040;

mode_t root_mode_of(mode_t recorded) {
  return (recorded & kGroupDirectory) == kGroupDirectory ? 0750 : 0700;
}

bool clean(std::string_view path) {
  if (path.empty() || path.find('\0') != std::string_view::npos) return false;
  while (true) {
    const std::size_t end = std::min(path.find('/'), path.size());
    const std::string_view part = path.substr(0, end);
    if (part.empty() || part == "." || part == "..") return false;
    if (end == path.size()) return true;
    path.remove_prefix(end + 1);
  }
}

[[noreturn]] void bad_path(std::string_view path) {
  throw Error(sqlstate::kDataCorrupted,
              fmt::format("backup manifest names an impossible path \"{}\"", path));
}

class LayoutMaker {
 public:
  LayoutMaker(const Manifest& manifest, const LayoutRequest& request)
      : manifest_(manifest), request_(request) {
    layout_.root = request.root;
  }

  Layout make() {
    for (const auto& directory : manifest_.directories()) {
      if (directory.path().empty()) layout_.root_mode = root_mode_of(directory.mode());
    }
    add_tablespaces();
    add_directories();
    add_files();
    add_external_directories();
    std::ranges::sort(layout_.directories, {}, &DirectoryTarget::path);
    return std::move(layout_);
  }

 private:
  void add_tablespaces() {
    const std::string version = postgres::tablespace_version_directory(
        postgres::major_of(static_cast<int>(manifest_.instance().server_version_num())),
        manifest_.instance().catalog_version());
    std::vector<bool> used(request_.tablespace_mapping.size());
    std::set<std::string> places;
    const auto add = [&](std::uint32_t oid, const std::string& location) {
      TablespaceTarget target{
          .oid = oid, .location = location, .build = {}, .version_directory = version};
      bool mapped = false;
      for (std::size_t i = 0; i < used.size(); ++i) {
        const auto& entry = request_.tablespace_mapping[i];
        if (!maps(entry, oid, location)) continue;
        used[i] = true;
        // One location may be of two tablespaces, one after the other: an OID is the closer name.
        if (!mapped || !entry.from().starts_with('/')) target.location = entry.to();
        mapped = true;
      }
      place(target, mapped);
      if (!places.insert(target.location).second) {
        throw Error(sqlstate::kInvalidParameterValue,
                    fmt::format("two tablespaces would be restored to \"{}\"", target.location))
            .hint("Give each a place of its own with option tablespace_mapping.");
      }
      ensure_directory(target.build + "/" + version);
      layout_.tablespaces.push_back(std::move(target));
    };
    for (const auto& tablespace : manifest_.tablespaces()) {
      // An in-place tablespace (allow_in_place_tablespaces) is a directory like any other.
      if (tablespace.location().starts_with('/')) add(tablespace.oid(), tablespace.location());
    }
    for (const auto& tablespace : request_.replayed) add(tablespace.oid(), tablespace.location());
    const auto unused = std::ranges::find(used, false);
    if (unused != used.end()) {
      throw Error(sqlstate::kInvalidParameterValue,
                  fmt::format("tablespace \"{}\" in option tablespace_mapping is not in the backup",
                              request_.tablespace_mapping[unused - used.begin()].from()));
    }
  }

  void place(TablespaceTarget& target, bool mapped) {
    const std::string old_root = manifest_.instance().data_directory() + "/";
    if (!mapped && target.location.starts_with(old_root)) {
      const std::string inside = target.location.substr(old_root.size());
      if (!clean(inside)) bad_path(target.location);
      target.inside = true;
      target.build = request_.root + "/" + inside;
      target.location = request_.final_root + "/" + inside;
      ensure_directory(target.build);
      return;
    }
    target.build = request_.tablespace_build_name.empty()
                       ? target.location
                       : target.location + "/" + request_.tablespace_build_name;
  }

  void add_directories() {
    for (const auto& directory : manifest_.directories()) {
      if (directory.path().empty() || is_link(directory.path())) continue;
      add_directory(resolve(directory.path()), layout_.root_mode & root_mode_of(directory.mode()));
    }
    for (const std::string_view needed : {"global", "pg_wal", "pg_wal/archive_status"}) {
      ensure_directory(fmt::format("{}/{}", request_.root, needed));
    }
    if (!manifest_.tablespaces().empty() || !request_.replayed.empty()) {
      ensure_directory(request_.root + "/pg_tblspc");
    }
  }

  void add_files() {
    std::unordered_set<std::string> paths;
    std::unordered_set<std::uint32_t> ids;
    layout_.files.reserve(manifest_.files_size());
    for (const auto& file : manifest_.files()) {
      std::string path = path_of(file);
      if (!paths.insert(path).second || !ids.insert(file.id()).second) bad_path(file.path());
      layout_.files.push_back({.id = file.id(),
                               .size = file.size(),
                               .mode = 0600 | (layout_.file_mode() & file.mode() & kGroupFile),
                               .kind = file.kind(),
                               .path = std::move(path)});
    }
  }

  std::string path_of(const collection::proto::File& file) {
    if (file.kind() != collection::proto::FILE_KIND_EXTERNAL_CONFIG) return resolve(file.path());
    if (!file.path().starts_with('/') || !clean(std::string_view(file.path()).substr(1))) {
      bad_path(file.path());
    }
    std::string below = std::string(kExternalConfigDirectory) + file.path();
    for (std::size_t slash = below.find('/'); slash != std::string::npos;
         slash = below.find('/', slash + 1)) {
      external_directories_.insert(below.substr(0, slash));
    }
    return request_.root + "/" + below;
  }

  void add_external_directories() {
    for (const auto& path : external_directories_) {
      ensure_directory(request_.root + "/" + path);
    }
  }

  /// One that a server needs, whether or not the backup recorded it.
  void ensure_directory(std::string path) {
    if (seen_directories_.insert(path).second) {
      layout_.directories.push_back({std::move(path), layout_.root_mode});
    }
  }

  void add_directory(std::string path, mode_t mode) {
    if (seen_directories_.insert(path).second) {
      layout_.directories.push_back({std::move(path), mode});
    } else {
      // What the backup recorded is better than our default.
      std::ranges::find(layout_.directories, path, &DirectoryTarget::path)->mode = mode;
    }
  }

  /// "pg_tblspc/16400" itself, when it is a link.
  bool is_link(std::string_view path) const {
    return path.starts_with(kTablespacePrefix) && find(path.substr(kTablespacePrefix.size()));
  }

  const TablespaceTarget* find(std::string_view oid) const {
    const auto found = std::ranges::find_if(
        layout_.tablespaces, [&](const auto& space) { return std::to_string(space.oid) == oid; });
    return found == layout_.tablespaces.end() ? nullptr : &*found;
  }

  std::string resolve(std::string_view path) const {
    if (!clean(path)) bad_path(path);
    if (path.starts_with(kTablespacePrefix)) {
      const std::string_view rest = path.substr(kTablespacePrefix.size());
      const std::size_t slash = rest.find('/');
      if (slash != std::string_view::npos) {
        if (const TablespaceTarget* space = find(rest.substr(0, slash))) {
          // Anything else in a tablespace's location belongs to other clusters.
          const std::string_view inside = rest.substr(slash + 1);
          if (inside.substr(0, inside.find('/')) != space->version_directory) bad_path(path);
          return fmt::format("{}/{}", space->build, inside);
        }
      }
    }
    return fmt::format("{}/{}", request_.root, path);
  }

  const Manifest& manifest_;
  const LayoutRequest& request_;
  Layout layout_;
  std::unordered_set<std::string> seen_directories_;
  std::set<std::string> external_directories_;
};

}  // namespace

Layout make_layout(const Manifest& manifest, const LayoutRequest& request) {
  return LayoutMaker(manifest, request).make();
}

}  // namespace holdfast::restore
