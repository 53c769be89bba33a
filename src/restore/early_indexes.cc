#include "restore/early_indexes.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "restore/copy_tables.h"
#include "restore/dump_list.h"

namespace holdfast::restore {
namespace {

/// Each takes a run of pg_restore of its own: for small tables that costs more than the waiting.
constexpr std::uint64_t kLargeTableBytes = 16U << 20;
/// Of an index of which nobody knows yet how large it is, the table's part.
constexpr std::uint64_t kUsualPart = 8;

// Source: PostgreSQL src/include/catalog/pg_class.h, pg_constraint.h.
constexpr std::uint32_t kClassCatalog = 1259;
constexpr std::uint32_t kConstraintCatalog = 2606;

/// What depends on other objects of users' may have to wait for more than the table: a function,
/// for one, that needs a primary key to be valid. Of partitioned indexes one is a part only later.
constexpr std::string_view kIndexes =
    "SELECT i.indrelid, i.indexrelid, COALESCE(k.oid, 0), x.relpages::bigint * 8192 "
    "FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid "
    "LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid "
    " AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u') "
    "WHERE i.indrelid IN ({}) AND NOT i.indisexclusion AND NOT EXISTS ("
    " SELECT FROM pg_catalog.pg_depend d "
    " WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = i.indexrelid "
    " AND d.refobjid >= 16384 "
    " AND d.refclassid <> 'pg_catalog.pg_constraint'::pg_catalog.regclass "
    " AND NOT (d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass "
    "  AND (d.refobjid = i.indrelid OR EXISTS (SELECT FROM pg_catalog.pg_class p "
    "   WHERE p.oid = d.refobjid AND p.relkind = 'I'))))";

}  // namespace

EarlyIndexes::EarlyIndexes(const ObjectRestoreRun& run, postgres::Connection& workshop,
                           DumpRequest dump, std::string database,
                           const std::vector<TableRows>& tables)
    : run_(run), dump_(std::move(dump)), database_(std::move(database)), tables_(tables.size()) {
  std::map<std::int64_t, std::size_t> places;
  std::string oids;
  for (std::size_t i = 0; i < tables.size(); ++i) {
    if (tables[i].bytes < kLargeTableBytes) continue;
    places[tables[i].oid] = i;
    oids += fmt::format("{}{}", oids.empty() ? "" : ", ", tables[i].oid);
  }
  if (oids.empty()) return;
  const std::string list = list_definitions(run, dump_, DumpSection::PostData);
  const auto entries = parse_dump_list(list);
  std::map<std::pair<std::uint32_t, std::uint32_t>, const DumpEntry*> by_object;
  for (const auto& entry : entries) {
    if (entry.catalog != 0) by_object[{entry.catalog, entry.object}] = &entry;
  }
  std::set<std::string_view> early;
  const auto found = workshop.query(fmt::format(fmt::runtime(kIndexes), oids), run.stop());
  for (std::size_t row = 0; row < found.rows(); ++row) {
    const std::size_t place = places.at(found.integer(row, 0));
    const auto constraint = static_cast<std::uint32_t>(found.integer(row, 2));
    const auto entry = by_object.find(
        constraint != 0
            ? std::pair(kConstraintCatalog, constraint)
            : std::pair(kClassCatalog, static_cast<std::uint32_t>(found.integer(row, 1))));
    if (entry == by_object.end()) continue;
    early.insert(entry->second->line);
    auto& of_table = tables_[place];
    auto& kind = constraint != 0 ? of_table.constraints : of_table.indexes;
    kind.push_back({.entry = std::string(entry->second->line),
                    .bytes = std::max(static_cast<std::uint64_t>(found.integer(row, 3)),
                                      tables[place].bytes / kUsualPart)});
  }
  any_ = !early.empty();
  for (const auto& entry : entries) {
    if (!early.contains(entry.line)) rest_ += entry.line;
  }
}

std::uint64_t EarlyIndexes::bytes(std::size_t table) const {
  std::uint64_t bytes = 0;
  for (const auto& index : tables_[table].constraints) bytes += index.bytes;
  for (const auto& index : tables_[table].indexes) bytes += index.bytes;
  return bytes;
}

void EarlyIndexes::add_to(TaskQueue& queue, std::size_t table) const {
  add_constraint(queue, table, 0);
}

void EarlyIndexes::add_constraint(TaskQueue& queue, std::size_t table, std::size_t number) const {
  const OfTable& of_table = tables_[table];
  if (number < of_table.constraints.size()) {
    const Index& constraint = of_table.constraints[number];
    // Before the indexes that wait for it.
    queue.add(bytes(table),
              [this, &queue, &constraint, table, number](std::size_t, const Stop& stop) {
                build(constraint, stop);
                add_constraint(queue, table, number + 1);
              });
    return;
  }
  for (const Index& index : of_table.indexes) {
    queue.add(index.bytes, [this, &index](std::size_t, const Stop& stop) { build(index, stop); });
  }
}

void EarlyIndexes::build(const Index& index, const Stop& stop) const {
  stop.check();
  run_.job.pause_point("restore.objects_early_index");
  // Its number in the dump is its own.
  restore_listed(run_, dump_, database_,
                 {.name = index.entry.substr(0, index.entry.find(';')), .list = index.entry}, stop);
}

void EarlyIndexes::restore_rest() const {
  if (!any_) return restore_definitions(run_, dump_, database_, DumpSection::PostData);
  restore_listed(run_, dump_, database_, {.name = "rest", .list = rest_, .jobs = run_.workers},
                 run_.stop());
}

}  // namespace holdfast::restore
