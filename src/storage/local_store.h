#pragma once

#include <memory>
#include <string>

#include "io/file_system.h"
#include "storage/object_store.h"

namespace holdfast::storage {

struct LocalStoreOptions {
  std::string root_directory;       ///< must exist; may itself be a symbolic link
  std::string prefix;               ///< a key below it where this store begins; may be empty
  std::string description;          ///< what ObjectStore::description() answers
  io::FileSystem* files = nullptr;  ///< null: the kernel's
};

/// Objects as files. No key leads out of `root_directory`: ".." is refused, and symbolic links
/// below it are not followed. A put writes a temporary file beside its place (".hf-…"), syncs it,
/// gives it its name and syncs the directory. What a crash leaves of that is invisible to list()
/// and removed by it.
std::unique_ptr<ObjectStore> open_local_store(const LocalStoreOptions& options);

}  // namespace holdfast::storage
