#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "base/stop.h"
#include "postgres/wal_changes.h"
#include "postgres/wal_scan.h"

namespace holdfast::backup {

/// A copy of a database's files that replay of a backup's WAL would make of other content than
/// PostgreSQL made it of; absent when there is none.
///
/// CREATE DATABASE with STRATEGY file_copy (before PostgreSQL 15 always) and ALTER DATABASE … SET
/// TABLESPACE log no pages, only that a directory was copied: replay removes what the backup has of
/// the target and copies the backup's source, whatever that is by then. So the source must be in
/// the backup as it was at the record: neither gone because the files were read later, nor changed
/// before they were read. `wal` begins at the backup's start LSN and ends where the last file had
/// been read: what happens behind that finds the files as they were. `has_all` tells whether the
/// backup has every file of a source that is dropped within the WAL, `wanted` whether it has the
/// database that a copy is of: replay does nothing about others.
/// Source: PostgreSQL src/backend/commands/dbcommands.c (dbase_redo).
std::optional<postgres::DatabaseCopy> find_unsound_copy(
    const postgres::WalRange& wal, const postgres::WalInput& input,
    const std::function<bool(const postgres::DatabaseFiles&)>& has_all,
    const std::function<bool(std::uint32_t)>& wanted, const Stop& stop);

}  // namespace holdfast::backup
