#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string_view>

#include "base/clock.h"
#include "base/error.h"
#include "storage/object_store.h"

namespace holdfast::storage {

/// Who may remove an object before its time: with Governance those with a right for it, with
/// Compliance nobody.
enum class LockMode { Governance, Compliance };

/// Retention that each object is given when it is put.
struct ObjectLock {
  LockMode mode = LockMode::Governance;
  std::chrono::seconds retain_for{0};  ///< from the moment of the put on; positive
  /// The objects that are given it; null: all.
  std::function<bool(const ObjectKey&)> applies_to = nullptr;

  bool is_for(const ObjectKey& key) const { return !applies_to || applies_to(key); }
};

/// How a store is used, beyond where it is.
struct StoreAccess {
  std::optional<ObjectLock> lock = std::nullopt;
  /// Present: what was there at this moment is read, whatever was removed or overwritten since, as
  /// far as the service keeps old versions. Nothing can be put or removed.
  std::optional<Time> versions_at = std::nullopt;
};

/// kFeatureNotSupported for access that a driver cannot give; `driver` reads like "nodelocal".
Error lock_unsupported(std::string_view driver);
Error versions_unsupported(std::string_view driver);

}  // namespace holdfast::storage
