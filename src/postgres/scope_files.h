#pragma once

#include <string_view>

#include "postgres/wal_scope.h"

namespace holdfast::postgres {

/// Whether a file of the data directory (by its path in there) belongs to a partial copy with this
/// scope: the control file, what all databases share, the wanted databases' own plain files, and
/// the relations that the scope wants. Configuration, and the state of prepared transactions and
/// replication, stay away: a server that recovers the copy needs none of it.
bool file_in_scope(std::string_view path, const WalScope& scope);

/// Whether a directory may hold such files: false for those of databases that are not wanted.
bool directory_in_scope(std::string_view path, const WalScope& scope);

}  // namespace holdfast::postgres
