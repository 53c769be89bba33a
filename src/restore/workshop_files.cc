// Which files of a database a workshop needs, going by the pages of its catalogs.

#include <fmt/core.h>

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "collection/scope.h"
#include "postgres/catalog_pages.h"
#include "postgres/relation_path.h"
#include "restore/workshop.h"

namespace holdfast::restore {
namespace {

// Source: PostgreSQL src/include/catalog/pg_class.h, pg_inherits.h, pg_largeobject.h,
// pg_namespace.dat.
constexpr std::uint32_t kClassOid = 1259;
/// Also its relfilenode, unless it was rewritten.
constexpr std::uint32_t kInheritsOid = 2611;
constexpr std::uint32_t kLargeObjectOid = 2613;
constexpr std::uint32_t kLargeObjectIndexOid = 2683;
constexpr std::uint32_t kToastSchema = 99;
/// Source: PostgreSQL src/include/access/transam.h (FirstNormalObjectId).
constexpr std::uint32_t kFirstNormalOid = 16384;

/// Adds what inherits from the relations, and from that again.
void add_heirs(const std::vector<std::string>& pg_inherits, std::set<std::uint32_t>& relations) {
  std::multimap<std::uint32_t, std::uint32_t> children;
  for (const std::string& pages : pg_inherits) {
    postgres::scan_pg_inherits(as_bytes(pages), [&](const postgres::InheritsRow& row) {
      children.emplace(row.parent, row.child);
    });
  }
  std::vector<std::uint32_t> left(relations.begin(), relations.end());
  while (!left.empty()) {
    const auto [first, last] = children.equal_range(left.back());
    left.pop_back();
    for (auto child = first; child != last; ++child) {
      if (relations.insert(child->second).second) left.push_back(child->second);
    }
  }
}

/// What is made anew where rows go: indexes on users' tables, and what materialized views hold.
/// Not indexes of TOAST, without which nobody can read it.
bool is_made_anew(const postgres::ClassRow& row) {
  return row.oid >= kFirstNormalOid && row.schema != kToastSchema &&
         (row.kind == 'i' || row.kind == 'm');
}

/// The files of what is not.
constexpr std::string_view kFilesOfRows =
    "SELECT pg_catalog.pg_relation_filenode(oid)::bigint FROM pg_catalog.pg_class "
    "WHERE pg_catalog.pg_relation_filenode(oid) IS NOT NULL "
    "AND NOT (oid >= {} AND relnamespace <> {} AND relkind IN ('i', 'm'))";

}  // namespace

/// Where the database's own files are, below the data directory: one, unless it was being moved.
std::vector<std::string> Workshop::directories_of(std::uint32_t database) const {
  constexpr std::string_view kMap = "/pg_filenode.map";
  std::vector<std::string> found;
  for (const auto& file : options_.chain.back().files()) {
    const std::string_view path = file.path();
    if (path.ends_with(fmt::format("/{}{}", database, kMap))) {
      found.emplace_back(path.substr(0, path.size() - kMap.size()));
    }
  }
  return found;
}

/// The pages of its main fork, file by file; none when it is not there.
std::vector<std::string> Workshop::read_relation(std::uint32_t database,
                                                 std::uint32_t relfilenode) const {
  std::vector<std::string> pages;
  for (const auto& file : options_.chain.back().files()) {
    const auto relation = postgres::parse_relation_path(file.path());
    if (!relation || relation->relation.database != database ||
        relation->relation.relation != relfilenode || relation->fork != postgres::Fork::Main) {
      continue;
    }
    pages.push_back(read_file(file.path()));
  }
  return pages;
}

/// Lays out the shared files, and of each database pg_class and pg_inherits. Gives the relfilenode
/// of pg_class, by database; none for one that was created while the backup ran.
std::map<std::uint32_t, std::uint32_t> Workshop::lay_out_pg_class(
    const std::set<std::uint32_t>& databases, const Stop& stop) {
  close();
  // With nothing of a database comes the map of its own catalogs.
  postgres::WalScope scope;
  for (const auto database : databases) scope.databases[database] = {.all = false, .files = {}};
  fill(scope, stop);
  std::map<std::uint32_t, std::uint32_t> found;
  for (const auto database : databases) {
    const auto directories = directories_of(database);
    if (directories.empty()) continue;
    const auto map = postgres::parse_relation_map(
        as_bytes(read_file(directories.back() + "/pg_filenode.map")), major_);
    const auto pg_class = map.find(kClassOid);
    if (pg_class == map.end()) throw Error(sqlstate::kDataCorrupted, "relation map lacks pg_class");
    found[database] = pg_class->second;
    scope.databases[database].files = {pg_class->second, kInheritsOid};
  }
  fill(scope, stop);
  return found;
}

postgres::WalScope Workshop::rows_of(const std::set<std::uint32_t>& databases, const Stop& stop) {
  const auto files = lay_out_pg_class(databases, stop);
  postgres::WalScope scope;
  for (const auto database : databases) {
    auto& chosen = scope.databases[database];
    const auto pg_class = files.find(database);
    if (pg_class == files.end()) continue;
    std::set<std::uint32_t> wanted;
    for (const std::string& pages : read_relation(database, pg_class->second)) {
      postgres::scan_pg_class(as_bytes(pages), major_, [&](const postgres::ClassRow& row) {
        if (row.file == 0) return;
        if (is_made_anew(row)) {
          chosen.files.insert(row.file);
        } else {
          wanted.insert(row.file);
        }
      });
    }
    for (const auto file : wanted) chosen.files.erase(file);
  }
  return scope;
}

postgres::WalScope Workshop::catalogs_of(std::uint32_t database, std::set<std::uint32_t> relations,
                                         const Stop& stop) {
  const auto files = lay_out_pg_class({database}, stop);
  const auto pg_class = files.find(database);
  if (pg_class == files.end()) {
    throw Error(sqlstate::kFeatureNotSupported,
                "restoring from a database that was created while the backup ran is not supported "
                "yet");
  }
  add_heirs(read_relation(database, kInheritsOid), relations);

  // What belongs to users' relations, or holds large objects, is left out; what nobody names may be
  // a new file of a catalog that is being rewritten, and stays.
  postgres::WalScope::Relations chosen{.all = true, .files = {}};
  std::set<std::uint32_t> wanted;
  for (const std::string& pages : read_relation(database, pg_class->second)) {
    postgres::scan_pg_class(as_bytes(pages), major_, [&](const postgres::ClassRow& row) {
      if (row.file == 0) return;
      const bool unneeded = row.oid == kLargeObjectOid || row.oid == kLargeObjectIndexOid;
      const bool catalog = row.oid < kFirstNormalOid && !unneeded;
      const std::uint32_t owner = postgres::toasted_table(row.name).value_or(row.oid);
      if (catalog || relations.contains(owner)) {
        wanted.insert(row.file);
      } else {
        chosen.files.insert(row.file);
      }
    });
  }
  for (const auto file : wanted) chosen.files.erase(file);
  const auto* scope = collection::find_scope(options_.chain.back(), database);
  // A layer's own WAL has its history's before it, and so what joined or left meanwhile.
  const bool history = options_.chain.back().has_history() ||
                       (options_.target != nullptr && !options_.target->wal_layer().empty());
  if (history && scope != nullptr && !scope->tables().empty()) {
    // Of others the WAL may have what is written into pages that are not there.
    postgres::WalScope::Relations whole{.all = false, .files = {}};
    for (const auto file : scope->files()) {
      if (chosen.wants(file)) whole.files.insert(file);
    }
    chosen = std::move(whole);
  }
  return {.databases = {{database, std::move(chosen)}}};
}

bool rows_need_none_of(postgres::Connection& workshop,
                       const std::unordered_set<std::uint32_t>& left_out, const Stop& stop) {
  const auto files = workshop.query(fmt::format(kFilesOfRows, kFirstNormalOid, kToastSchema), stop);
  for (std::size_t row = 0; row < files.rows(); ++row) {
    if (left_out.contains(static_cast<std::uint32_t>(files.integer(row, 0)))) return false;
  }
  return true;
}

void hide_indexes(postgres::Connection& workshop, std::string_view condition, const Stop& stop) {
  // TOAST's own are there and needed.
  workshop.simple_query(fmt::format("UPDATE pg_catalog.pg_class c SET relhasindex = false "
                                    "WHERE c.relkind IN ('r', 'p') AND {}",
                                    condition),
                        stop);
}

}  // namespace holdfast::restore
