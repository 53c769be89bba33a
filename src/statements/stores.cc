#include "statements/stores.h"

#include "statements/privileges.h"
#include "storage/uri.h"

namespace holdfast::statements {

std::unique_ptr<storage::ObjectStore> open_for_user(Stores& stores, const std::string& uri,
                                                    sql::SessionContext& session) {
  const storage::StorageUri parsed = storage::parse_uri(uri);
  if (storage::reaches_as_daemon(parsed)) require_storage_privilege(session, parsed.scheme);
  return stores.open(uri);
}

}  // namespace holdfast::statements
