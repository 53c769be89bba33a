#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/stop.h"
#include "storage/object_store.h"

namespace holdfast::storage {

/// What a service has kept of one object.
struct ObjectVersion {
  ObjectKey key;
  std::string id = {};  ///< the service's name for it
  std::uint64_t size = 0;
  Time since{};  ///< when it was written
  /// When it was overwritten or removed; absent where it was not, or where the service does not
  /// tell of removals.
  std::optional<Time> until = std::nullopt;
};

/// A service that keeps versions. Thread-safe.
class VersionSource {
 public:
  virtual ~VersionSource() = default;
  /// Calls `visit` for each version of every object of the store, on this thread, in any order.
  virtual void list(const std::function<void(ObjectVersion)>& visit, const Stop& stop) = 0;
  /// As ObjectStore::get_into(), of this version. `into` is not empty.
  virtual bool get_into(const ObjectVersion& version, std::uint64_t offset, MutableByteView into,
                        const Stop& stop) = 0;
  /// As ObjectStore::description().
  virtual std::string description() const = 0;
};

/// The store as it was at a moment: of each object the newest version that is not newer, unless it
/// was gone by then. For reading only. All versions are listed once, before the first answer:
/// services tell less, and in other ways, of single objects and of directories.
std::unique_ptr<ObjectStore> open_as_of(std::unique_ptr<VersionSource> source, Time at);

}  // namespace holdfast::storage
