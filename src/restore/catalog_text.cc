#include "restore/catalog_text.h"

#include <fmt/format.h>

#include "postgres/connection.h"

namespace holdfast::restore {

std::string schema_list(const std::vector<std::string>& schemas) {
  std::string list;
  for (const auto& schema : schemas) {
    list += (list.empty() ? "" : ", ") + postgres::quote_literal(schema);
  }
  return list;
}

std::string schema_filter(const std::vector<std::string>& schemas) {
  return schemas.empty() ? "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
                         : fmt::format("n.nspname IN ({})", schema_list(schemas));
}

std::string qualified(const std::string& schema, const std::string& name) {
  return postgres::quote_identifier(schema) + "." + postgres::quote_identifier(name);
}

std::string quote_conninfo_value(std::string_view value) {
  std::string quoted = "'";
  for (const char c : value) {
    if (c == '\'' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "'";
}

}  // namespace holdfast::restore
