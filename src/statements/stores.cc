#include "statements/stores.h"

#include "statements/connection_rights.h"
#include "statements/privileges.h"
#include "storage/external_uri.h"
#include "storage/uri.h"

namespace holdfast::statements {

void check_storage_use(Stores& stores, const std::string& uri, sql::SessionContext& session) {
  if (storage::is_external(uri)) {
    // Whoever made the connection was allowed to reach what it leads to.
    if (stores.connections() != nullptr) {
      find_connection(*stores.connections(), storage::parse_external_uri(uri).name, session,
                      ConnectionRight::Usage);
    }
    return;
  }
  const storage::StorageUri parsed = storage::parse_uri(uri);
  if (storage::reaches_as_daemon(parsed)) require_storage_privilege(session, parsed.scheme);
}

std::unique_ptr<storage::ObjectStore> open_for_user(Stores& stores, const std::string& uri,
                                                    sql::SessionContext& session) {
  check_storage_use(stores, uri, session);
  return stores.open(uri);
}

std::unique_ptr<storage::KmsKey> open_kms_for_user(Stores& stores, const std::string& uri,
                                                   sql::SessionContext& session) {
  check_storage_use(stores, uri, session);
  return stores.open_kms(uri);
}

}  // namespace holdfast::statements
