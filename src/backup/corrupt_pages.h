#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/stop.h"
#include "postgres/connection.h"
#include "postgres/relation_path.h"

namespace holdfast::backup {

/// A page whose checksum is wrong and that no WAL of the backup rewrites.
struct CorruptPageReport {
  postgres::BlockKey key;
  std::string path;      ///< of the relation segment file, relative to the data directory
  std::string relation;  ///< "public.accounts in database bank"; empty when it could not be found
};

/// Finds the files and, as far as the server tells, the names of the relations.
/// `tablespace_version_directory` as in PlanRequest.
std::vector<CorruptPageReport> describe_corrupt_pages(const std::vector<postgres::BlockKey>& pages,
                                                      std::string_view tablespace_version_directory,
                                                      const postgres::ConnectOptions& connect,
                                                      const Stop& stop);

/// The Error (kDataCorrupted) that names them, the first twenty one by one.
Error corrupt_pages_error(const std::vector<CorruptPageReport>& pages);
/// One line for each of the first twenty, and how many more there are.
std::string list_corrupt_pages(const std::vector<CorruptPageReport>& pages);

/// PostgreSQL itself replaces a broken page of these forks by an empty one when it reads it, which
/// is always right for them. Source: PostgreSQL src/backend/storage/freespace/freespace.c
/// (fsm_readbuf), src/backend/access/heap/visibilitymap.c (vm_readbuf): RBM_ZERO_ON_ERROR.
bool heals_by_itself(postgres::Fork fork);

}  // namespace holdfast::backup
