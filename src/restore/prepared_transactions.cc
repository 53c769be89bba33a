#include "restore/prepared_transactions.h"

#include <cstddef>

namespace holdfast::restore {

void release_prepared(postgres::Connection& workshop, const Stop& stop) {
  const auto open = workshop.query(
      "SELECT gid FROM pg_catalog.pg_prepared_xacts "
      "WHERE database = pg_catalog.current_database()",
      stop);
  for (std::size_t row = 0; row < open.rows(); ++row) {
    workshop.simple_query("ROLLBACK PREPARED " + postgres::quote_literal(open.text(row, 0)), stop);
  }
}

}  // namespace holdfast::restore
