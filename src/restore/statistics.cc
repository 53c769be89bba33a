#include "restore/statistics.h"

#include <algorithm>
#include <atomic>

#include "base/worker_pool.h"

namespace holdfast::restore {

using postgres::Connection;

std::vector<std::string> list_analyzed(Connection& target, const Stop& stop) {
  // A partitioned table has no size of its own.
  const auto found = target.query(
      "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c "
      "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
      "WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND c.relpersistence <> 't' "
      "ORDER BY c.relkind = 'p' DESC, pg_catalog.pg_table_size(c.oid) DESC",
      stop);
  std::vector<std::string> names;
  for (std::size_t row = 0; row < found.rows(); ++row) names.push_back(found.text(row, 0));
  return names;
}

void gather_statistics(const ObjectRestoreRun& run, const postgres::ConnectOptions& target,
                       const std::vector<std::string>& relations, const Stop& stop) {
  if (relations.empty()) return;
  run.job.report({.bytes_done = 0, .bytes_total = 0, .phase = "gathering statistics"});
  std::atomic<std::size_t> next = 0;
  run_workers(std::min(run.workers, relations.size()), stop,
              [&](std::size_t, const Stop& worker_stop) {
                std::size_t i = next++;
                if (i >= relations.size()) return;
                Connection connection = Connection::open(target, worker_stop);
                for (; i < relations.size(); i = next++) {
                  connection.simple_query("ANALYZE " + relations[i], worker_stop);
                }
              });
}

}  // namespace holdfast::restore
