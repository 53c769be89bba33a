#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/stop.h"

namespace holdfast::postgres {

/// The major version of the server in a directory of PostgreSQL's programs, by asking its "postgres
/// --version"; absent when there is none that runs.
std::optional<int> programs_major(const std::filesystem::path& directory, const Stop& stop);

/// The major version that a program of PostgreSQL's, such as "pg_dump", says it has; absent when
/// the directory has none that runs.
std::optional<int> program_major(const std::filesystem::path& directory, const std::string& program,
                                 const Stop& stop);

/// The directory, among those given and where Debian puts that version, whose `program` is of
/// version `major`. Absent: none.
std::optional<std::filesystem::path> find_program(const std::vector<std::filesystem::path>& given,
                                                  int major, const std::string& program,
                                                  const Stop& stop);

struct ProgramsWanted {
  std::filesystem::path data_directory;
  std::optional<int> major;                  ///< absent: the data directory is lost
  std::vector<std::filesystem::path> given;  ///< by the user, for one or several versions
  std::filesystem::path remembered;          ///< where they were last time; may be empty
};

/// The directory of the programs for an instance: as find_pg_bin() while there is a data directory.
/// When it is lost: the first one given, the remembered one, or the only version installed under
/// /usr/lib/postgresql. Throws kUndefinedFile, with a hint, when that leaves none or a choice.
std::filesystem::path choose_pg_bin(const ProgramsWanted& wanted, const Stop& stop);

}  // namespace holdfast::postgres
