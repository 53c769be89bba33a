#pragma once

#include <optional>
#include <string>

#include "backup/milestones.h"
#include "jobs/registry.h"
#include "state/history.h"
#include "statements/dispatcher.h"

namespace holdfast::statements {

/// What the tables of the information schema show. All outlive the sessions.
struct HistoryServices {
  state::History& history;
  jobs::Registry& registry;
  const backup::Milestones& milestones;
};
/// Adds information_schema.mv_backup_history, mv_backup_status and mv_milestones, and CLEAR
/// BACKUP_HISTORY. Users see what they have run themselves, administrators all; only these clear.
void add_history_statements(Dispatcher& dispatcher, const HistoryServices& services);

/// What a job's texts tell about the backup that it takes or restores. Members are absent where
/// they do not tell, or where it is the whole cluster.
struct BackupPlace {
  std::optional<std::string> databases;   ///< "a, b"
  std::optional<std::string> collection;  ///< its URI without secrets
  std::optional<std::string> path;        ///< the collection's URI and the subdirectory
  bool incremental = false;
  std::string_view type = "FULL";  ///< of a backup, as mv_backup_history calls it
  std::optional<std::string> tags;
};
BackupPlace place_of(const std::string& description, const std::string& statement);

}  // namespace holdfast::statements
