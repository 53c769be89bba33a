#pragma once

#include <string>

#include "base/stop.h"
#include "collection/collection.h"
#include "sql/statements.h"
#include "storage/object_store.h"

namespace holdfast::statements {

/// The full backup that a statement addresses.
struct FoundBackup {
  std::string subdirectory;  ///< without leading "/"
  collection::proto::Manifest manifest;
};

/// Resolves LATEST or checks the subdirectory, and reads the manifest. Throws kUndefinedFile when
/// there is no such backup, with a hint that leads to one.
FoundBackup find_backup(storage::ObjectStore& store, const sql::Subdirectory& address,
                        const Stop& stop);

}  // namespace holdfast::statements
