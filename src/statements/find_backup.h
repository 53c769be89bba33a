#pragma once

#include <string>
#include <vector>

#include "base/stop.h"
#include "collection/collection.h"
#include "collection/incremental_location.h"
#include "sql/row_sink.h"
#include "sql/statements.h"
#include "storage/object_store.h"

namespace holdfast::statements {

/// The full backup that a statement addresses, and the layers on it.
struct FoundBackup {
  std::string subdirectory;  ///< of the full, without leading "/"
  /// Of the full and all its incrementals, oldest first.
  std::vector<std::string> layers;
};

/// The subdirectory as written in a statement, without slashes around it. Throws
/// kInvalidParameterValue when it cannot be one.
std::string subdirectory_of(const sql::Subdirectory& address);

/// What to do where the chain has layers in a place that the store does not show.
struct HiddenLayers {
  enum What { Refuse, LeaveOut } what = Refuse;
  collection::Viewer viewer = collection::Viewer::Other;
};

/// Resolves LATEST or checks the subdirectory, and lists the layers. On storage that cannot be
/// listed (a plain web server) a backup addressed by its name is the full alone; a notice says so.
/// Throws kUndefinedFile when there is no such backup, with a hint that leads to one, and
/// kInvalidParameterValue for layers that are hidden.
FoundBackup find_backup(storage::ObjectStore& store, const sql::Subdirectory& address,
                        HiddenLayers hidden, sql::RowSink& sink, const Stop& stop);

}  // namespace holdfast::statements
