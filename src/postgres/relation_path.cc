#include "postgres/relation_path.h"

#include <fmt/core.h>

#include <array>
#include <charconv>
#include <vector>

namespace holdfast::postgres {
namespace {

constexpr std::array<std::string_view, 4> kForkSuffixes = {"", "_fsm", "_vm", "_init"};

// PostgreSQL prints these numbers without leading zeros, so a name with them is not its own.
std::optional<std::uint32_t> parse_number(std::string_view text) {
  if (text.empty() || (text.size() > 1 && text.front() == '0')) return std::nullopt;
  std::uint32_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<std::uint32_t> parse_oid(std::string_view text) {
  const auto oid = parse_number(text);
  return oid && *oid != 0 ? oid : std::nullopt;
}

// Sets relation number, fork, segment and the temporary fields.
// Source: PostgreSQL src/backend/storage/file/reinit.c (parse_filename_for_nontemp_relation),
// storage/file/fd.c (looks_like_temp_rel_name), common/relpath.c (GetRelationPath).
bool parse_file_name(std::string_view name, RelationPath& out) {
  if (name.starts_with('t')) {
    const auto underscore = name.find('_');
    if (underscore == std::string_view::npos) return false;
    const auto backend = parse_number(name.substr(1, underscore - 1));
    if (!backend) return false;
    out.temporary = true;
    out.backend = *backend;
    name.remove_prefix(underscore + 1);
  }
  if (const auto dot = name.find('.'); dot != std::string_view::npos) {
    const auto segment = parse_number(name.substr(dot + 1));
    if (!segment || *segment == 0) return false;
    out.segment = *segment;
    name = name.substr(0, dot);
  }
  if (const auto underscore = name.find('_'); underscore != std::string_view::npos) {
    const auto suffix = name.substr(underscore);
    bool known = false;
    for (std::size_t fork = 1; fork < kForkSuffixes.size(); ++fork) {
      if (suffix == kForkSuffixes[fork]) {
        out.fork = static_cast<Fork>(fork);
        known = true;
      }
    }
    if (!known) return false;
    name = name.substr(0, underscore);
  }
  const auto relation = parse_oid(name);
  if (!relation) return false;
  out.relation.relation = *relation;
  return true;
}

std::vector<std::string_view> split(std::string_view path) {
  std::vector<std::string_view> parts;
  while (true) {
    const auto slash = path.find('/');
    parts.push_back(path.substr(0, slash));
    if (slash == std::string_view::npos) return parts;
    path.remove_prefix(slash + 1);
  }
}

// Source: PostgreSQL src/backend/backup/basebackup.c (excludeDirContents) and sendDir, which treats
// pg_wal in the same way. pg_wal's subdirectories are made by the server where they are missing.
constexpr std::array<std::string_view, 8> kEmptyDirectories = {
    "pg_wal",    "pg_replslot",  "pg_dynshmem", "pg_notify",
    "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"};

// Files of the data directory itself. Source: as above (excludeFiles), and the doc's section for
// recovery.signal and standby.signal, which a restore writes for itself.
constexpr std::array<std::string_view, 11> kSkippedFiles = {
    "postmaster.pid",       "postmaster.opts",    "backup_label",    "tablespace_map",
    "backup_label.old",     "tablespace_map.old", "backup_manifest", "postgresql.auto.conf.tmp",
    "current_logfiles.tmp", "recovery.signal",    "standby.signal"};

}  // namespace

std::optional<RelationPath> parse_relation_path(std::string_view path) {
  const auto parts = split(path);
  RelationPath out;
  std::optional<std::uint32_t> database;
  if (parts[0] == "global" && parts.size() == 2) {
    out.relation.tablespace = kGlobalTablespace;
    database = 0;
  } else if (parts[0] == "base" && parts.size() == 3) {
    out.relation.tablespace = kDefaultTablespace;
    database = parse_oid(parts[1]);
  } else if (parts[0] == "pg_tblspc" && parts.size() == 5 && parts[2].starts_with("PG_")) {
    const auto tablespace = parse_oid(parts[1]);
    if (!tablespace) return std::nullopt;
    out.relation.tablespace = *tablespace;
    database = parse_oid(parts[3]);
  }
  if (!database || !parse_file_name(parts.back(), out)) return std::nullopt;
  out.relation.database = *database;
  return out;
}

std::string tablespace_version_directory(int major, std::uint32_t catalog_version) {
  return fmt::format("PG_{}_{}", major, catalog_version);
}

std::string print_relation_path(const RelationPath& path, std::string_view version_directory) {
  std::string text;
  if (path.relation.tablespace == kGlobalTablespace) {
    text = "global/";
  } else if (path.relation.tablespace == kDefaultTablespace) {
    text = fmt::format("base/{}/", path.relation.database);
  } else {
    text = fmt::format("pg_tblspc/{}/{}/{}/", path.relation.tablespace, version_directory,
                       path.relation.database);
  }
  if (path.temporary) text += fmt::format("t{}_", path.backend);
  text += fmt::format("{}{}", path.relation.relation,
                      kForkSuffixes[static_cast<std::size_t>(path.fork)]);
  if (path.segment != 0) text += fmt::format(".{}", path.segment);
  return text;
}

BackupRule backup_rule(std::string_view path, bool is_directory) {
  const auto slash = path.rfind('/');
  const auto name = slash == std::string_view::npos ? path : path.substr(slash + 1);
  const auto top = path.substr(0, path.find('/'));
  const bool at_top = slash == std::string_view::npos;

  for (const auto directory : kEmptyDirectories) {
    if (top == directory) return at_top ? BackupRule::KeepEmpty : BackupRule::Skip;
  }
  // What a restore laid beside the cluster: the directory that it replaced, where that could not be
  // renamed, and copies of the configuration files that a backup takes from their own places.
  if (top.starts_with(".holdfast-") || top == "holdfast_external_config") return BackupRule::Skip;
  // Wherever they are: in the data directory, in base/pgsql_tmp, in a tablespace's directory.
  if (name.starts_with("pgsql_tmp")) return BackupRule::Skip;
  if (is_directory) return BackupRule::Take;
  // Caches of the relation cache, one for each database, named with the process id while written.
  if (name.starts_with("pg_internal.init")) return BackupRule::Skip;
  if (at_top) {
    for (const auto file : kSkippedFiles) {
      if (name == file) return BackupRule::Skip;
    }
    return BackupRule::Take;
  }
  const auto relation = parse_relation_path(path);
  return relation && relation->temporary ? BackupRule::Skip : BackupRule::Take;
}

void UnloggedRelations::add(std::string_view file_name) {
  RelationPath parsed;
  if (parse_file_name(file_name, parsed) && !parsed.temporary && parsed.fork == Fork::Init) {
    relations_.insert(parsed.relation.relation);
  }
}

bool UnloggedRelations::leaves_out(std::string_view file_name) const {
  RelationPath parsed;
  return parse_file_name(file_name, parsed) && !parsed.temporary && parsed.fork != Fork::Init &&
         relations_.contains(parsed.relation.relation);
}

}  // namespace holdfast::postgres
