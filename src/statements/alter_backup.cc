#include "statements/alter_backup.h"

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "collection/collection.h"
#include "collection/encryption.h"
#include "collection/object_lock.h"
#include "statements/encryption.h"
#include "statements/find_backup.h"
#include "statements/privileges.h"

namespace holdfast::statements {

namespace {

std::unique_ptr<collection::KeyGuard> guard_of(const sql::BackupKeys& keys, Stores& stores,
                                               sql::SessionContext& session) {
  if (keys.passphrase) {
    return std::make_unique<collection::PassphraseGuard>(keys.passphrase->value);
  }
  std::vector<std::string> uris;
  for (const auto& uri : keys.kms) uris.push_back(uri.value);
  return kms_guard(uris, stores, session);
}

}  // namespace

void AlterBackupStatement::run(const sql::AlterBackupKeys& statement, sql::SessionContext& session,
                               sql::RowSink& sink, const Stop& stop) {
  require_administrator(session, "alter backups");
  if (!statement.subdirectory) {
    throw Error(sqlstate::kFeatureNotSupported,
                "ALTER BACKUP with the path of a backup is not supported")
        .hint("Name the full backup and its collection: ALTER BACKUP LATEST IN '…' ADD ….");
  }
  const std::string& uri = statement.in.value;
  auto store = open_for_user(stores_, uri, session);
  const std::string full = statement.subdirectory->latest
                               ? collection::resolve_latest(*store, stop)
                               : subdirectory_of(*statement.subdirectory);
  const auto old = guard_of(statement.old, stores_, session);
  const auto added = guard_of(statement.added, stores_, session);
  // As the chain's other objects: what opens it must not go before they do.
  const auto lock = collection::recorded_lock(*store, full, *old, stop);
  if (!lock.mode.empty()) {
    store = open_for_user(stores_, uri, session,
                          collection::locking(lock.mode, lock.retain_for_seconds));
  }
  collection::add_guard(*store, full, *old, *added, stop);
  sink.complete("ALTER BACKUP");
}

}  // namespace holdfast::statements
