#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/mutex.h"
#include "sql/statements.h"

namespace holdfast::statements {

/// Remembers the last few parsed statements, because the extended query protocol asks three times
/// for the same text (parameters, columns, execution) and prepared statements many times.
/// Thread-safe.
class ParseCache {
 public:
  /// Throws what sql::parse() throws. The caller and the cache share the statement.
  std::shared_ptr<const sql::Statement> parse(std::string_view text);

 private:
  Mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<const sql::Statement>> statements_
      HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::statements
