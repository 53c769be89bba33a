#include "statements/alter_backup.h"

#include <string>
#include <vector>

#include "base/error.h"
#include "collection/collection.h"
#include "collection/encryption.h"
#include "statements/encryption.h"
#include "statements/find_backup.h"
#include "statements/privileges.h"

namespace holdfast::statements {

namespace {

std::vector<std::string> texts_of(const sql::Uris& uris) {
  std::vector<std::string> texts;
  for (const auto& uri : uris) texts.push_back(uri.value);
  return texts;
}

}  // namespace

void AlterBackupStatement::run(const sql::AlterBackupKms& statement, sql::SessionContext& session,
                               sql::RowSink& sink, const Stop& stop) {
  require_administrator(session, "alter backups");
  if (!statement.subdirectory) {
    throw Error(sqlstate::kFeatureNotSupported,
                "ALTER BACKUP with the path of a backup is not supported")
        .hint("Name the full backup and its collection: ALTER BACKUP LATEST IN '…' ADD ….");
  }
  const auto store = open_for_user(stores_, statement.in.value, session);
  const std::string full = statement.subdirectory->latest
                               ? collection::resolve_latest(*store, stop)
                               : subdirectory_of(*statement.subdirectory);
  const auto old = kms_guard(texts_of(statement.old_kms), stores_, session);
  const auto added = kms_guard(texts_of(statement.new_kms), stores_, session);
  collection::add_guard(*store, full, *old, *added, stop);
  sink.complete("ALTER BACKUP");
}

}  // namespace holdfast::statements
