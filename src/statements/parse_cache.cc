#include "statements/parse_cache.h"

#include "sql/parser.h"

namespace holdfast::statements {

namespace {

constexpr std::size_t kStatements = 64;
// Longer texts (long lists of ids) are rarely sent twice.
constexpr std::size_t kLongestText = 16 * 1024;

}  // namespace

std::shared_ptr<const sql::Statement> ParseCache::parse(std::string_view text) {
  const std::string key(text);
  {
    MutexLock lock(mutex_);
    const auto found = statements_.find(key);
    if (found != statements_.end()) return found->second;
  }
  auto statement = std::make_shared<const sql::Statement>(sql::parse(text));
  if (text.size() <= kLongestText) {
    MutexLock lock(mutex_);
    if (statements_.size() >= kStatements) statements_.clear();
    statements_.insert_or_assign(key, statement);
  }
  return statement;
}

}  // namespace holdfast::statements
