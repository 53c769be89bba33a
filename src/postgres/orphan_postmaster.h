#pragma once

#include <sys/types.h>

#include <filesystem>
#include <vector>

#include "base/stop.h"

namespace holdfast::postgres {

/// Postmasters that still run in `data_directory` although it (or its postmaster.pid) was deleted.
/// Such a server holds its port, notices within a minute that its lock file is gone, and shuts
/// down. Found through /proc: a postmaster's working directory is its data directory. Source:
/// PostgreSQL src/backend/utils/init/miscinit.c (RecheckDataDirLockFile), postmaster.c.
std::vector<pid_t> find_orphan_postmasters(const std::filesystem::path& data_directory);

/// Ends them: immediate shutdown (there is no directory left that a checkpoint could be written
/// to), SIGKILL after ten seconds. Throws kIoError when one survives even that; Stopped.
void stop_orphan_postmasters(const std::filesystem::path& data_directory, const Stop& stop);

}  // namespace holdfast::postgres
