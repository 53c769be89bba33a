#pragma once

#include <string>
#include <vector>

#include "base/stop.h"
#include "base/unique_fd.h"
#include "io/file_system.h"
#include "restore/layout.h"

namespace holdfast::restore {

/// Makes everything of a layout durable. Where the file system can be trusted with it, by one
/// syncfs() for each file system: thousands of small files would cost a journal commit each.
/// Elsewhere by fsync of every file and directory.
class Durability {
 public:
  /// Made before anything is written: errors of writing back are reported to descriptors that were
  /// open then. The directories must exist.
  explicit Durability(const Layout& layout);

  /// Throws Error when something could not be written.
  void sync(io::FileSystem& files, std::size_t workers, const Stop& stop);

 private:
  struct Root {
    std::string path;
    UniqueFd fd;
    bool whole = false;  ///< syncfs() is enough
  };
  std::vector<Root> roots_;
};

}  // namespace holdfast::restore
