#include "postgres/checks.h"

#include <fmt/core.h>

#include <string_view>

#include "base/error.h"
#include "postgres/control_file.h"
#include "postgres/versions.h"

namespace holdfast::postgres {
namespace {

std::vector<std::string_view> backup_functions(int major) {
  if (version_facts(major).has_pg_backup_start) {
    return {"pg_catalog.pg_backup_start(text, boolean)", "pg_catalog.pg_backup_stop(boolean)"};
  }
  return {"pg_catalog.pg_start_backup(text, boolean, boolean)",
          "pg_catalog.pg_stop_backup(boolean, boolean)"};
}

// Needed to see data_directory, config_file and the like, and the sizes of all databases.
constexpr std::string_view kMonitorRole = "pg_monitor";

bool asks(Connection& connection, const std::string& sql, const Parameters& parameters,
          const Stop& stop) {
  return connection.query(sql, parameters, stop).boolean(0, 0);
}

void check_role(Connection& connection, const ServerFacts& facts, const Stop& stop,
                std::vector<MissingThing>& missing) {
  if (facts.superuser) return;
  const std::string role = quote_identifier(facts.role);
  const auto lacks = [&](std::string what, std::string remedy) {
    missing.push_back({fmt::format("role \"{}\" {}", facts.role, what), std::move(remedy)});
  };
  if (!asks(connection,
            "SELECT rolreplication FROM pg_catalog.pg_roles WHERE rolname = current_user", {},
            stop)) {
    lacks("may not stream WAL", fmt::format("ALTER ROLE {} REPLICATION;", role));
  }
  if (!asks(connection, "SELECT pg_catalog.pg_has_role(current_user, $1::name, 'USAGE')",
            {std::string(kMonitorRole)}, stop)) {
    lacks("may not see all settings and sizes", fmt::format("GRANT {} TO {};", kMonitorRole, role));
  }
  for (const auto function : backup_functions(major_of(facts.server_version_num))) {
    if (!asks(connection,
              "SELECT pg_catalog.has_function_privilege(current_user, $1::text, 'EXECUTE')",
              {std::string(function)}, stop)) {
      lacks(fmt::format("may not execute {}", function),
            fmt::format("GRANT EXECUTE ON FUNCTION {} TO {};", function, role));
    }
  }
}

void check_settings(const ServerFacts& facts, std::vector<MissingThing>& missing) {
  if (facts.wal_level == "minimal") {
    missing.push_back({"wal_level is minimal, so the WAL of a backup cannot be replayed",
                       "Set wal_level = replica in postgresql.conf and restart PostgreSQL."});
  }
  if (facts.max_wal_senders < 1) {
    missing.push_back({"max_wal_senders is 0, so WAL cannot be received",
                       "Set max_wal_senders = 10 in postgresql.conf and restart PostgreSQL."});
  }
  if (facts.max_replication_slots < 1) {
    missing.push_back(
        {"max_replication_slots is 0, so PostgreSQL cannot be told which WAL to keep",
         "Set max_replication_slots = 10 in postgresql.conf and restart PostgreSQL."});
  }
}

void check_identity(const ServerFacts& facts, const std::filesystem::path& data_directory,
                    std::vector<MissingThing>& missing) {
  const ControlFile control = read_control_file(data_directory);
  if (control.system_identifier != facts.system_identifier) {
    missing.push_back(
        {fmt::format("the connected server has system identifier {}, the data directory \"{}\" "
                     "has {}",
                     facts.system_identifier, data_directory.string(), control.system_identifier),
         "Give the data directory and the connection string of the same instance."});
    return;
  }
  // The same identifier alone may be that of a standby beside its primary.
  if (facts.data_directory.empty()) return;
  std::error_code failed;
  const bool same = std::filesystem::equivalent(facts.data_directory, data_directory, failed);
  if (!same) {
    missing.push_back({fmt::format("the connected server's data directory is \"{}\", not \"{}\"",
                                   facts.data_directory.string(), data_directory.string()),
                       "Give the data directory and the connection string of the same instance."});
  }
}

}  // namespace

ServerFacts read_server_facts(Connection& connection, const Stop& stop) {
  ServerFacts facts;
  facts.server_version_num = connection.server_version_num();
  version_facts(major_of(facts.server_version_num));
  // The superuser-only settings are null to those who may not see them, because pg_settings leaves
  // such rows out. It makes a row of every setting, so it is asked once.
  const QueryResult result = connection.query(
      "SELECT pg_catalog.current_setting('server_version'), current_user, "
      "       (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user), "
      "       pg_catalog.pg_is_in_recovery(), "
      "       (SELECT system_identifier FROM pg_catalog.pg_control_system()), "
      "       s.data_directory, "
      "       pg_catalog.current_setting('wal_level'), "
      "       (SELECT bytes_per_wal_segment FROM pg_catalog.pg_control_init()), "
      "       pg_catalog.current_setting('max_wal_senders'), "
      "       pg_catalog.current_setting('max_replication_slots'), "
      "       pg_catalog.current_setting('data_checksums'), "
      "       s.hba_file "
      "FROM (SELECT pg_catalog.max(setting) FILTER (WHERE name = 'data_directory'), "
      "             pg_catalog.max(setting) FILTER (WHERE name = 'hba_file') "
      "      FROM pg_catalog.pg_settings) s(data_directory, hba_file)",
      stop);
  facts.server_version = result.text(0, 0);
  facts.role = result.text(0, 1);
  facts.superuser = result.boolean(0, 2);
  facts.in_recovery = result.boolean(0, 3);
  facts.system_identifier = static_cast<std::uint64_t>(result.integer(0, 4));
  facts.data_directory = result.text(0, 5);
  facts.wal_level = result.text(0, 6);
  facts.wal_segment_bytes = static_cast<std::uint64_t>(result.integer(0, 7));
  facts.max_wal_senders = static_cast<int>(result.integer(0, 8));
  facts.max_replication_slots = static_cast<int>(result.integer(0, 9));
  facts.data_checksums = result.boolean(0, 10);
  facts.hba_file = result.text(0, 11);
  return facts;
}

std::vector<MissingThing> check_instance(Connection& connection,
                                         const std::filesystem::path& data_directory,
                                         const Stop& stop) {
  return check_instance(connection, read_server_facts(connection, stop), data_directory, stop);
}

std::vector<MissingThing> check_instance(Connection& connection, const ServerFacts& facts,
                                         const std::filesystem::path& data_directory,
                                         const Stop& stop) {
  std::vector<MissingThing> missing;
  check_identity(facts, data_directory, missing);
  check_role(connection, facts, stop, missing);
  check_settings(facts, missing);
  return missing;
}

std::vector<std::string> backup_role_statements(const std::string& role, int major) {
  const std::string quoted = quote_identifier(role);
  std::vector<std::string> statements = {fmt::format("CREATE ROLE {} LOGIN REPLICATION", quoted),
                                         fmt::format("GRANT {} TO {}", kMonitorRole, quoted)};
  for (const auto function : backup_functions(major)) {
    statements.push_back(fmt::format("GRANT EXECUTE ON FUNCTION {} TO {}", function, quoted));
  }
  return statements;
}

}  // namespace holdfast::postgres
