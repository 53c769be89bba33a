#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "storage/uri.h"

namespace holdfast::storage {

/// The parameters of a storage URI, taken one by one; what is left over at the end is unknown.
class UriParameters {
 public:
  /// `kind` is for messages: "S3".
  UriParameters(const StorageUri& uri, std::string_view kind);

  /// The value, which is not needed twice; empty when the parameter is absent. Throws
  /// kInvalidParameterValue when it is there twice.
  std::string take(std::string_view name);
  /// The same for "true" and "false", which is the default.
  bool take_flag(std::string_view name);
  /// Throws kInvalidParameterValue naming what nobody took.
  void finish() const;

 private:
  std::string kind_;
  std::vector<std::pair<std::string, std::string>> left_;
};

/// "a/b" of "//a//b/": CockroachDB's users write paths in all these ways. Throws
/// kInvalidParameterValue for a ".." part: it "leads out of `root`".
std::string normalize_path(const std::string& path, std::string_view shown_uri,
                           std::string_view root);

}  // namespace holdfast::storage
