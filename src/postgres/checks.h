#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/stop.h"
#include "postgres/connection.h"

namespace holdfast::postgres {

/// Something that keeps backups from working, and what to do about it.
struct MissingThing {
  std::string what;    ///< "role \"backup\" may not execute pg_backup_start"
  std::string remedy;  ///< "GRANT EXECUTE ON FUNCTION … TO backup;" or a sentence
};

struct ServerFacts {
  int server_version_num = 0;
  std::string server_version;  ///< as SHOW server_version: "15.18 (Debian 15.18-0+deb12u1)"
  std::string role;            ///< the connected role
  bool superuser = false;
  bool in_recovery = false;
  std::uint64_t system_identifier = 0;
  std::filesystem::path data_directory;  ///< empty when the role may not see it
  std::string wal_level;
  std::uint64_t wal_segment_bytes = 0;
  int max_wal_senders = 0;
  int max_replication_slots = 0;
  bool data_checksums = false;
  std::string hba_file;
};
ServerFacts read_server_facts(Connection& connection, const Stop& stop);

/// Whether the server behind `connection` is the one of `data_directory` (same system identifier as
/// in its control file, same directory as the server says) and its role may take backups. Empty:
/// all is well. Throws kFeatureNotSupported for an unsupported version.
///
/// The least role: LOGIN REPLICATION, member of pg_read_all_settings and pg_monitor, EXECUTE on the
/// backup functions, CONNECT on the databases.
std::vector<MissingThing> check_instance(Connection& connection,
                                         const std::filesystem::path& data_directory,
                                         const Stop& stop);
/// The same with what read_server_facts() has just told.
std::vector<MissingThing> check_instance(Connection& connection, const ServerFacts& facts,
                                         const std::filesystem::path& data_directory,
                                         const Stop& stop);

/// The statements that make `role` fit for backups on this major version, one per element.
std::vector<std::string> backup_role_statements(const std::string& role, int major);

}  // namespace holdfast::postgres
