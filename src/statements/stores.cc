#include "statements/stores.h"

#include <fmt/format.h>

#include <optional>

#include "base/error.h"
#include "statements/connection_rights.h"
#include "statements/privileges.h"
#include "storage/external_uri.h"
#include "storage/uri.h"
#include "storage/userfile_uri.h"

namespace holdfast::statements {

std::string own_uri(const std::string& uri, sql::SessionContext& session) {
  return storage::is_userfile(uri) ? storage::own_userfile_uri(uri, current_user(session)) : uri;
}

bool leads_to_userfile(Stores& stores, const std::string& uri) {
  if (!storage::is_external(uri)) return storage::is_userfile(uri);
  const auto* const connections = stores.connections();
  const auto connection = connections == nullptr
                              ? std::nullopt
                              : connections->find(storage::parse_external_uri(uri).name);
  return connection && storage::is_userfile(connection->uri);
}

void refuse_userfile(Stores& stores, const std::string& uri, std::string_view what,
                     std::string_view reason) {
  if (!leads_to_userfile(stores, uri)) return;
  throw Error(sqlstate::kFeatureNotSupported, fmt::format("{} cannot use userfile storage", what))
      .detail(std::string(reason))
      .hint("Use other storage; userfile is for backups of databases and tables.");
}

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
                                                    sql::SessionContext& session,
                                                    const storage::StoreAccess& access) {
  check_storage_use(stores, uri, session);
  return stores.open(own_uri(uri, session), access);
}

std::unique_ptr<storage::KmsKey> open_kms_for_user(Stores& stores, const std::string& uri,
                                                   sql::SessionContext& session) {
  check_storage_use(stores, uri, session);
  return stores.open_kms(uri);
}

}  // namespace holdfast::statements
