#pragma once

#include <string>

#include "base/stop.h"
#include "io/file_system.h"
#include "manifest.pb.h"
#include "postgres/wal_scope.h"
#include "restore/layout.h"
#include "restore_job.pb.h"
#include "storage/object_store.h"

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

/// Puts the backup's WAL, up to `target` if there is one, into pg_wal, with records outside the
/// scope replaced by ones that do nothing.
void restore_scoped_wal(const collection::proto::Manifest& manifest,
                        const proto::RecoveryTarget* target, const Layout& layout,
                        const postgres::WalScope& scope, storage::ObjectStore& store,
                        io::FileSystem& files, const Stop& stop);

}  // namespace holdfast::restore
