#pragma once

#include <string>
#include <string_view>
#include <unordered_set>

#include "storage/object_store.h"

namespace holdfast::storage {

/// The names of a store's objects inside a bucket or container: below a prefix of its own.
class KeyPlace {
 public:
  /// `prefix` is a key, or empty.
  explicit KeyPlace(std::string prefix) : start_(prefix.empty() ? "" : prefix + "/") {}

  std::string full(const ObjectKey& key) const { return start_ + key; }
  /// What the full names of the objects below `prefix` begin with.
  std::string full_prefix(const ObjectKey& prefix) const {
    return prefix.empty() ? start_ : start_ + prefix + "/";
  }
  /// The store's own name of an object; `full` begins with full_prefix("").
  ObjectKey own(std::string_view full) const { return ObjectKey(full.substr(start_.size())); }

 private:
  const std::string start_;
};

/// Checks the pages that a list comes in: a page that is sent again must not make an endless list,
/// nor an object appear twice.
class ListPages {
 public:
  /// `what` is for messages. Throws (with Retry::Safe) when the server gave this token for the next
  /// page before.
  void next(const std::string& token, std::string_view what);
  /// False for one that was there before.
  bool is_new(const std::string& name) { return names_.insert(name).second; }

 private:
  std::unordered_set<std::string> tokens_;
  std::unordered_set<std::string> names_;
};

}  // namespace holdfast::storage
