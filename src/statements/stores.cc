#include "statements/stores.h"

#include "statements/option_checks.h"
#include "statements/privileges.h"

namespace holdfast::statements {

std::unique_ptr<storage::ObjectStore> open_for_user(Stores& stores, const std::string& uri,
                                                    sql::SessionContext& session) {
  std::string scheme = uri_scheme(uri);
  if (scheme == "nodelocal") require_storage_privilege(session, scheme);
  return stores.open(uri);
}

}  // namespace holdfast::statements
