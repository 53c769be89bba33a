#pragma once

#include <memory>
#include <string>

#include "sql/statement_runner.h"
#include "state/external_connections.h"
#include "storage/kms.h"
#include "storage/object_store.h"

namespace holdfast::statements {

/// Opens the storage that statements name. The daemon's implementation knows its directories and
/// external connections. Thread-safe.
class Stores {
 public:
  virtual ~Stores() = default;
  virtual std::unique_ptr<storage::ObjectStore> open(const std::string& uri) = 0;
  /// A key of a key management service; external:// is followed.
  virtual std::unique_ptr<storage::KmsKey> open_kms(const std::string& uri) = 0;
  /// What external:// URIs lead to; null where there are none.
  virtual const state::ExternalConnections* connections() const { return nullptr; }
};

/// Throws kInsufficientPrivilege unless the user may use this external connection; what only the
/// daemon's own rights open (storage's reaches_as_daemon()) is for administrators.
void check_storage_use(Stores& stores, const std::string& uri, sql::SessionContext& session);

/// Opens it for a user's statement, after check_storage_use().
std::unique_ptr<storage::ObjectStore> open_for_user(Stores& stores, const std::string& uri,
                                                    sql::SessionContext& session);
/// The same for a key.
std::unique_ptr<storage::KmsKey> open_kms_for_user(Stores& stores, const std::string& uri,
                                                   sql::SessionContext& session);

}  // namespace holdfast::statements
