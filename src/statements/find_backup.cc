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

FoundBackup find_backup(storage::ObjectStore& store, const sql::Subdirectory& address,
                        const Stop& stop) {
  FoundBackup found;
  found.subdirectory =
      address.latest ? collection::resolve_latest(store, stop) : subdirectory_of(address);
  found.layers = collection::list_layers(store, found.subdirectory, stop);
  if (found.layers.empty()) {
    throw Error(sqlstate::kUndefinedFile,
                fmt::format("backup manifest \"{}\" does not exist in {}",
                            collection::manifest_key(found.subdirectory), store.description()))
        .detail("A finished backup has a manifest; it is the last object written.")
        .hint("List the finished backups with SHOW BACKUPS IN.");
  }
  return found;
}

}  // namespace holdfast::statements
