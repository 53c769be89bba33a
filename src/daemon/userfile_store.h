#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "postgres/connection.h"
#include "storage/object_store.h"
#include "storage/userfile_uri.h"

namespace holdfast::daemon {

struct UserfileServer {
  /// How the server is reached; the database is that of the place. Asked for each connection.
  std::function<postgres::ConnectOptions()> connect;
  /// Sees each statement before it is sent. Null: nobody wants to.
  std::function<void(std::string_view statement)> echo = nullptr;
};

/// Objects as rows of two tables in PostgreSQL (docs/storage.md, "userfile"), which the first put
/// makes. An object appears whole, by one transaction. Keeps a connection for each thread that uses
/// it at the same time.
///
/// The daemon comes as a superuser, and a table can make whoever uses it run its owner's code. So
/// only plain tables are used that belong to a superuser or to the connection's own role, and they
/// are locked before that is looked at: anything else throws kInsufficientPrivilege.
std::unique_ptr<storage::ObjectStore> open_userfile_store(storage::UserfilePlace place,
                                                          UserfileServer server);

}  // namespace holdfast::daemon
