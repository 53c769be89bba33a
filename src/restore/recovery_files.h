#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/stop.h"
#include "io/file_system.h"
#include "manifest.pb.h"
#include "restore/layout.h"
#include "restore_job.pb.h"
#include "storage/object_store.h"

namespace holdfast::restore {

/// The highest timeline that exists anywhere: the server must begin a newer one when its recovery
/// ends, or two histories would share the name of a timeline (and of its WAL files in the archive).
/// Looks at the collection; `of_replaced` is that of the directory that is replaced, 0 for none.
std::uint32_t highest_timeline(storage::ObjectStore& store,
                               const collection::proto::Manifest& manifest,
                               std::uint32_t of_replaced, const Stop& stop);
/// The highest timeline that a data directory knows of (control file, history files in pg_wal); 0
/// when it is none or cannot be read.
std::uint32_t timeline_of_directory(const std::string& data_directory);

/// Writes what makes the server recover to the target, or without one to the end of the backup, and
/// no further: backup_label, tablespace_map, recovery.signal, timeline history, and our block in
/// postgresql.auto.conf. Not synced.
void write_recovery_files(const collection::proto::Manifest& manifest,
                          const proto::RecoveryTarget* target, const Layout& layout,
                          std::uint32_t highest_timeline, storage::ObjectStore& store,
                          io::FileSystem& files, const Stop& stop);

/// The last file of a data directory, durably: without it no server starts there. Throws
/// kDataCorrupted when `content` is no control file.
void write_control_file(const Layout& layout, const Bytes& content, io::FileSystem& files);

/// Takes our block out of postgresql.auto.conf again, durably. Fine when it is not there.
void remove_recovery_settings(const std::string& data_directory, io::FileSystem& files);

/// `text`, the content of a postgresql.auto.conf, without our block.
std::string without_recovery_settings(std::string_view text);

}  // namespace holdfast::restore
