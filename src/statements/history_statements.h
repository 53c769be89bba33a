#pragma once

#include <optional>
#include <string>

#include "jobs/registry.h"
#include "state/history.h"
#include "statements/dispatcher.h"

namespace holdfast::statements {

/// Adds information_schema.mv_backup_history and mv_backup_status, and CLEAR BACKUP_HISTORY. Users
/// see what they have run themselves, administrators all; only these clear. Both outlive the
/// sessions.
void add_history_statements(Dispatcher& dispatcher, state::History& history,
                            jobs::Registry& registry);

/// What a job's texts tell about the backup that it takes or restores. Members are absent where
/// they do not tell, or where it is the whole cluster.
struct BackupPlace {
  std::optional<std::string> databases;   ///< "a, b"
  std::optional<std::string> collection;  ///< its URI without secrets
  std::optional<std::string> path;        ///< the collection's URI and the subdirectory
  bool incremental = false;
};
BackupPlace place_of(const std::string& description, const std::string& statement);

}  // namespace holdfast::statements
