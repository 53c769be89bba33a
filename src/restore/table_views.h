#pragma once

#include <string>
#include <vector>

#include "postgres/connection.h"
#include "restore/object_restore.h"
#include "restore/table_preparation.h"

namespace holdfast::restore {

/// What views read, and the functions that they use, must be restored with them or be in the live
/// server. Throws the reference's errors for what is missing; with skip_missing_views (or
/// skip_missing_udfs for functions) takes such views out of `tables`, and those that read them.
void settle_views(const ObjectRestoreRun& run, postgres::Connection& workshop,
                  postgres::Connection& live, TableSet& tables);

/// A materialized view that holds something.
struct FilledView {
  std::string name;   ///< qualified and quoted
  std::string shown;  ///< for messages: a staging schema's name means nothing to anybody
};
/// Those in the workshop's `schemas` (all for none).
std::vector<FilledView> list_filled_views(const ObjectRestoreRun& run,
                                          postgres::Connection& workshop,
                                          const std::vector<std::string>& schemas);
/// Fills the same views of the target, as their owner of the moment. One that he may not fill stays
/// empty; a notice tells.
void refresh_views(const ObjectRestoreRun& run, postgres::Connection& target,
                   std::vector<FilledView> views);

}  // namespace holdfast::restore
