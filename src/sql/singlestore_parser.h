#pragma once

#include "sql/statements.h"
#include "sql/token_reader.h"

namespace holdfast::sql {

/// The forms of BACKUP and RESTORE that SingleStore has beside those of CockroachDB. Both have read
/// the targets already; each returns whether what follows (TO; AS, or FROM a place that no IN
/// follows) makes it one of these.
bool at_singlestore_backup(const TokenReader& reader);
bool at_singlestore_restore(const TokenReader& reader);

/// Go on behind the database's name.
SingleStoreBackup parse_singlestore_backup(TokenReader& reader, std::string database);
SingleStoreRestore parse_singlestore_restore(TokenReader& reader, std::string database);

}  // namespace holdfast::sql
