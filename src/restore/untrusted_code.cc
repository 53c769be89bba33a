#include "restore/untrusted_code.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/error.h"

namespace holdfast::restore {

void require_harmless(const ObjectRestoreRun& run, postgres::Connection& workshop,
                      const std::string& relations) {
  if (run.spec.administrator()) return;
  const auto owners =
      workshop.query(fmt::format("SELECT c.relname, pg_catalog.pg_get_userbyid(c.relowner) "
                                 "FROM pg_catalog.pg_class c WHERE c.oid IN ({})",
                                 relations),
                     run.stop());
  for (std::size_t row = 0; row < owners.rows(); ++row) {
    if (std::ranges::find(run.spec.roles(), owners.text(row, 1)) == run.spec.roles().end()) {
      throw Error(sqlstate::kInsufficientPrivilege,
                  fmt::format("must be owner of relation {}", owners.text(row, 0)))
          .detail(fmt::format("In the backup it belongs to role \"{}\".", owners.text(row, 1)));
    }
  }
  const auto code = workshop.query(
      fmt::format(
          "SELECT c.relname, 'a check constraint' FROM pg_catalog.pg_constraint k "
          "JOIN pg_catalog.pg_class c ON c.oid = k.conrelid WHERE k.contype = 'c' "
          "AND c.oid IN ({0}) "
          "UNION ALL SELECT c.relname, 'a generated column' FROM pg_catalog.pg_attribute a "
          "JOIN pg_catalog.pg_class c ON c.oid = a.attrelid WHERE a.attgenerated <> '' "
          "AND c.oid IN ({0}) "
          "UNION ALL SELECT c.relname, 'an expression in its partition key' "
          "FROM pg_catalog.pg_partitioned_table p JOIN pg_catalog.pg_class c ON c.oid = "
          "p.partrelid "
          "WHERE p.partexprs IS NOT NULL AND c.oid IN ({0}) "
          // Any domain of a user's in the database: what a column's type is made of has many forms.
          "UNION ALL SELECT t.typname, 'a check constraint of a domain' "
          "FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_type t ON t.oid = k.contypid "
          "WHERE k.contypid >= 16384 LIMIT 1",
          relations),
      run.stop());
  if (code.rows() == 0) return;
  throw Error(sqlstate::kInsufficientPrivilege,
              fmt::format("only administrators can restore \"{}\", which has {}", code.text(0, 0),
                          code.text(0, 1)))
      .detail("It would be evaluated with the rights of holdfast while the rows come in.");
}

}  // namespace holdfast::restore
