#include "statements/find_backup.h"

#include <fmt/format.h>

#include "base/error.h"
#include "collection/chain.h"

namespace holdfast::statements {

std::string subdirectory_of(const sql::Subdirectory& address) {
  std::string_view path = address.path.value;
  while (path.starts_with('/')) path.remove_prefix(1);
  while (path.ends_with('/')) path.remove_suffix(1);
  if (!collection::parse_subdirectory(path)) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("invalid backup subdirectory: \"{}\"", address.path.value))
        .hint("SHOW BACKUPS IN lists the subdirectories; they look like 2026/11/20-223000.00.");
  }
  return std::string(path);
}

namespace {

std::vector<std::string> layers_of(storage::ObjectStore& store, const std::string& full,
                                   sql::RowSink& sink, const Stop& stop) {
  try {
    return collection::list_layers(store, full, stop);
  } catch (const Error& error) {
    if (error.state() != sqlstate::kFeatureNotSupported) throw;
    if (!store.stat(collection::manifest_key(full), stop)) return {};
    sink.notice({.message = fmt::format("{}: incremental layers on \"{}\" are not seen",
                                        error.message(), full),
                 .detail = "The full backup itself is used."});
    return {full};
  }
}

}  // namespace

FoundBackup find_backup(storage::ObjectStore& store, const sql::Subdirectory& address,
                        HiddenLayers hidden, sql::RowSink& sink, const Stop& stop) {
  FoundBackup found;
  found.subdirectory =
      address.latest ? collection::resolve_latest(store, stop) : subdirectory_of(address);
  found.layers = layers_of(store, found.subdirectory, sink, stop);
  if (found.layers.empty()) {
    throw Error(sqlstate::kUndefinedFile,
                fmt::format("backup manifest \"{}\" does not exist in {}",
                            collection::manifest_key(found.subdirectory), store.description()))
        .detail("A finished backup has a manifest; it is the last object written.")
        .hint("List the finished backups with SHOW BACKUPS IN.");
  }
  const auto place =
      collection::hidden_incrementals(store, found.subdirectory, hidden.viewer, stop);
  if (place && hidden.what == HiddenLayers::Refuse) {
    throw collection::incremental_location_missing(found.subdirectory, *place)
        .hint(
            "Give that place as option incremental_location. incremental_location = '' leaves its "
            "backups out.");
  }
  if (place) {
    sink.notice({.message = fmt::format("the incremental backups of \"{}\" in {} are left out",
                                        found.subdirectory, *place)});
  }
  return found;
}

}  // namespace holdfast::statements
