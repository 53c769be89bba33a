#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace holdfast::postgres {

/// Source: PostgreSQL src/include/catalog/pg_tablespace.dat.
inline constexpr std::uint32_t kDefaultTablespace = 1663;  // pg_default, base/
inline constexpr std::uint32_t kGlobalTablespace = 1664;   // pg_global, global/

/// Source: PostgreSQL src/include/common/relpath.h (ForkNumber).
enum class Fork : std::uint8_t { Main = 0, FreeSpaceMap = 1, VisibilityMap = 2, Init = 3 };

/// Names a relation's storage, as in WAL records. `database` is 0 for shared relations.
/// Source: PostgreSQL src/include/storage/relfilelocator.h.
struct RelationLocator {
  std::uint32_t tablespace = 0;
  std::uint32_t database = 0;
  std::uint32_t relation = 0;
  friend constexpr auto operator<=>(const RelationLocator&, const RelationLocator&) = default;
};

/// One block of one fork.
struct BlockKey {
  RelationLocator relation;
  Fork fork = Fork::Main;
  std::uint32_t block = 0;
  friend constexpr auto operator<=>(const BlockKey&, const BlockKey&) = default;
};

/// A relation segment file: a file of at most 1 GiB of one fork.
struct RelationPath {
  RelationLocator relation;
  Fork fork = Fork::Main;
  std::uint32_t segment = 0;  ///< "16384.3" is relation segment 3
  bool temporary = false;     ///< "t3_16384": of a session's temporary table
  std::uint32_t backend = 0;  ///< temporary only: the 3 above
  friend constexpr auto operator<=>(const RelationPath&, const RelationPath&) = default;
};

/// Reads a path relative to the data directory: "base/5/16384_vm.3", "global/1260",
/// "pg_tblspc/16400/PG_15_202209061/5/16385". Absent when it is no relation segment file, such as
/// "base/5/pg_filenode.map".
std::optional<RelationPath> parse_relation_path(std::string_view path);

/// "PG_15_202209061", the directory that a server makes in each tablespace.
std::string tablespace_version_directory(int major, std::uint32_t catalog_version);

/// The path again. `version_directory` is used for tablespaces other than the two built-in ones.
std::string print_relation_path(const RelationPath& path, std::string_view version_directory);

/// What a base backup takes of one entry of the data directory.
enum class BackupRule {
  Take,       ///< a file with its content, or a directory to descend into
  KeepEmpty,  ///< a directory that a server needs, but whose content must not be taken
  Skip        ///< neither it nor anything below
};

/// The rule for `path`, relative to the data directory, whether it is a file or a directory.
/// Relation files are judged by name here only for temporary ones; for unlogged ones see
/// UnloggedRelations. Tablespace links in pg_tblspc are Take. pg_wal and what a server makes anew
/// are KeepEmpty; postmaster.pid, backup_label and the like are Skip. Source: PostgreSQL
/// src/backend/backup/basebackup.c (excludeDirContents, excludeFiles) of 13-18, and
/// doc/src/sgml/backup.sgml ("Backing Up the Data Directory").
BackupRule backup_rule(std::string_view path, bool is_directory);

/// The unlogged relations of one directory. Recovery resets them from their init fork, so a backup
/// leaves their other forks out.
class UnloggedRelations {
 public:
  /// Looks at one file name of the directory, such as "16384_init"; others change nothing.
  void add(std::string_view file_name);
  /// Whether `file_name` is a fork other than init of a relation whose init fork was added.
  bool leaves_out(std::string_view file_name) const;

 private:
  std::set<std::uint32_t> relations_;
};

}  // namespace holdfast::postgres
