#pragma once

#include <string>

#include "manifest.pb.h"
#include "postgres/wal_scope.h"
#include "restore/layout.h"

namespace holdfast::restore {

/// Everything of a backup, with tablespaces as directories below `tablespaces`.
Layout make_private_layout(const collection::proto::Manifest& manifest, const std::string& root,
                           const std::string& tablespaces);

/// The part of a cluster backup that an instance needs to recover what is in `scope`: the shared
/// files, of each database its own plain files, and the relations that the scope wants. Tablespaces
/// become directories below `tablespaces`; configuration and state of prepared transactions stay
/// away.
Layout make_partial_layout(const collection::proto::Manifest& manifest, const std::string& root,
                           const std::string& tablespaces, const postgres::WalScope& scope);

}  // namespace holdfast::restore
