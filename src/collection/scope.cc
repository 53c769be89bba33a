#include "collection/scope.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace holdfast::collection {

using proto::Manifest;
using proto::ScopeDatabase;
using proto::ScopeTable;

namespace {

Error cannot_append(std::string message) {
  return Error(sqlstate::kInvalidParameterValue, std::move(message))
      .hint("Start a new chain with BACKUP … INTO, or name what the chain's full backup named.");
}

void require_tables_in(const ScopeDatabase& base, const ScopeDatabase& wanted) {
  if (base.tables().empty()) {
    if (wanted.tables().empty()) return;
    throw cannot_append(
        fmt::format("previous backup contains the complete database \"{}\"", base.name()))
        .detail("All layers of a chain have the same scope.");
  }
  if (wanted.tables().empty()) {
    throw cannot_append(fmt::format("previous backup does not contain the complete database \"{}\"",
                                    wanted.name()));
  }
  for (const ScopeTable& table : wanted.tables()) {
    const bool known = std::ranges::any_of(
        base.tables(), [&](const ScopeTable& one) { return one.oid() == table.oid(); });
    if (!known) {
      throw cannot_append(
          fmt::format("previous backup does not contain table \"{}\"", print_table(wanted, table)));
    }
  }
}

}  // namespace

bool is_scoped(const Manifest& manifest) {
  return manifest.scope() == proto::SCOPE_DATABASES || manifest.scope() == proto::SCOPE_TABLES;
}

const ScopeDatabase* find_scope(const Manifest& manifest, std::uint32_t database) {
  const auto found = std::ranges::find(manifest.scope_databases(), database, &ScopeDatabase::oid);
  return found != manifest.scope_databases().end() ? &*found : nullptr;
}

const ScopeDatabase* find_scope(const Manifest& manifest, std::string_view database) {
  const auto found = std::ranges::find(manifest.scope_databases(), database, &ScopeDatabase::name);
  return found != manifest.scope_databases().end() ? &*found : nullptr;
}

bool holds_tables_only(const Manifest& manifest, std::uint32_t database) {
  const ScopeDatabase* scope = find_scope(manifest, database);
  return scope != nullptr && !scope->tables().empty();
}

bool holds_tables_only(const Manifest& manifest, std::string_view database) {
  const ScopeDatabase* scope = find_scope(manifest, database);
  return scope != nullptr && !scope->tables().empty();
}

void require_scope_in(const Manifest& base,
                      const google::protobuf::RepeatedPtrField<ScopeDatabase>& wanted) {
  if (!is_scoped(base)) {
    if (wanted.empty()) return;
    throw cannot_append(
        "cannot append a backup of specific tables or databases to a cluster backup");
  }
  if (wanted.empty()) {
    throw cannot_append(
        "cannot append a cluster backup to a backup of specific tables or databases");
  }
  for (const ScopeDatabase& database : wanted) {
    const ScopeDatabase* former = find_scope(base, database.oid());
    if (former != nullptr) {
      require_tables_in(*former, database);
      continue;
    }
    throw cannot_append(
        database.tables().empty()
            ? fmt::format("previous backup does not contain the complete database \"{}\"",
                          database.name())
            : fmt::format("previous backup does not contain table \"{}\"",
                          print_table(database, database.tables(0))));
  }
}

std::string print_table(const ScopeDatabase& database, const ScopeTable& table) {
  return fmt::format("{}.{}.{}", database.name(), table.schema(), table.name());
}

}  // namespace holdfast::collection
