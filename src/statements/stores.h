#pragma once

#include <memory>
#include <string>

#include "sql/statement_runner.h"
#include "state/external_connections.h"
#include "storage/kms.h"
#include "storage/object_store.h"
#include "storage/store_access.h"

namespace holdfast::statements {

/// Opens the storage that statements name. The daemon's implementation knows its directories and
/// external connections. Thread-safe.
class Stores {
 public:
  virtual ~Stores() = default;
  virtual std::unique_ptr<storage::ObjectStore> open(const std::string& uri,
                                                     const storage::StoreAccess& access) = 0;
  /// A key of a key management service; external:// is followed.
  virtual std::unique_ptr<storage::KmsKey> open_kms(const std::string& uri) = 0;
  /// What external:// URIs lead to; null where there are none.
  virtual const state::ExternalConnections* connections() const { return nullptr; }
};

/// The URI as a job may keep it: userfile:/// without a host means tables of the session's user.
std::string own_uri(const std::string& uri, sql::SessionContext& session);

/// Throws kFeatureNotSupported, "`what` cannot use userfile storage", where that is what the URI
/// leads to; `reason` is a sentence.
void refuse_userfile(Stores& stores, const std::string& uri, std::string_view what,
                     std::string_view reason);
/// Whether it is userfile storage that the URI leads to.
bool leads_to_userfile(Stores& stores, const std::string& uri);

/// Throws kInsufficientPrivilege unless the user may use this external connection; what only the
/// daemon's own rights open (storage's reaches_as_daemon()) is for administrators.
void check_storage_use(Stores& stores, const std::string& uri, sql::SessionContext& session);

/// Opens it for a user's statement, after check_storage_use().
std::unique_ptr<storage::ObjectStore> open_for_user(Stores& stores, const std::string& uri,
                                                    sql::SessionContext& session,
                                                    const storage::StoreAccess& access = {});
/// The same for a key.
std::unique_ptr<storage::KmsKey> open_kms_for_user(Stores& stores, const std::string& uri,
                                                   sql::SessionContext& session);

}  // namespace holdfast::statements
