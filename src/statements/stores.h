#pragma once

#include <memory>
#include <string>

#include "sql/statement_runner.h"
#include "storage/object_store.h"

namespace holdfast::statements {

/// Opens the storage that statements name. The daemon's implementation knows its directories and
/// external connections. Thread-safe.
class Stores {
 public:
  virtual ~Stores() = default;
  virtual std::unique_ptr<storage::ObjectStore> open(const std::string& uri) = 0;
};

/// Opens it for a user's statement. What only the daemon's own rights open (storage's
/// reaches_as_daemon()) is for administrators.
std::unique_ptr<storage::ObjectStore> open_for_user(Stores& stores, const std::string& uri,
                                                    sql::SessionContext& session);

}  // namespace holdfast::statements
