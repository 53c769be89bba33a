#include "statements/stores.h"

#include "statements/connection_rights.h"
#include "statements/option_checks.h"
#include "statements/privileges.h"
#include "storage/external_uri.h"

namespace holdfast::statements {

std::unique_ptr<storage::ObjectStore> open_for_user(Stores& stores, const std::string& uri,
                                                    sql::SessionContext& session) {
  std::string scheme = uri_scheme(uri);
  if (scheme == "nodelocal") require_storage_privilege(session, scheme);
  if (scheme == storage::kExternalScheme && stores.connections() != nullptr) {
    find_connection(*stores.connections(), storage::parse_external_uri(uri).name, session,
                    ConnectionRight::Usage);
  }
  return stores.open(uri);
}

}  // namespace holdfast::statements
