#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "manifest.pb.h"

namespace holdfast::collection {

/// Whether the layer holds only some databases or tables. (A manifest without any scope is of a
/// version that knew only clusters.)
bool is_scoped(const proto::Manifest& manifest);

/// What a layer with a scope holds of a database, by OID or name; null: nothing.
const proto::ScopeDatabase* find_scope(const proto::Manifest& manifest, std::uint32_t database);
const proto::ScopeDatabase* find_scope(const proto::Manifest& manifest, std::string_view database);

/// Whether only some tables of this database are in the backup, so that neither it nor all of its
/// tables can be restored.
bool holds_tables_only(const proto::Manifest& manifest, std::uint32_t database);
bool holds_tables_only(const proto::Manifest& manifest, std::string_view database);

/// Throws kInvalidParameterValue, in CockroachDB's words where it has some, unless a layer with the
/// scope `wanted` can continue `base`: the same kind, nothing that `base` lacks. No databases
/// at all mean the cluster.
void require_scope_in(const proto::Manifest& base,
                      const google::protobuf::RepeatedPtrField<proto::ScopeDatabase>& wanted);

/// "bank.public.customers", for messages.
std::string print_table(const proto::ScopeDatabase& database, const proto::ScopeTable& table);

}  // namespace holdfast::collection
