#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/stop.h"
#include "manifest.pb.h"
#include "postgres/connection.h"

namespace holdfast::restore {

/// Between which layers a moment lies, for messages: directories.
struct Between {
  std::string base;
  std::string wal_layer;  ///< empty: the moment is the base's own end
};

/// Of a backup of tables: throws kInvalidParameterValue, naming the relation, when at the moment
/// that the workshop has recovered a relation had a file which the backup does not have whole. That
/// cannot be at a layer's own end. `wanted` is an SQL condition on pg_class c, for relations of
/// users; the database's catalogs are always looked at.
void require_known_files(postgres::Connection& workshop,
                         const collection::proto::ScopeDatabase& scope, const std::string& wanted,
                         const Between& between, const Stop& stop);

/// Whether a workshop's error says that one of the database's own catalogs has such a file.
bool lacks_file_of_catalog(const Error& error, const collection::proto::ScopeDatabase& scope,
                           const Between& between);

/// The error of a relation with such a file.
Error unknown_file(std::string_view relation, const Between& between);

}  // namespace holdfast::restore
