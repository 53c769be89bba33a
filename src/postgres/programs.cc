#include "postgres/programs.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <system_error>

#include "base/error.h"
#include "postgres/child_process.h"
#include "postgres/instance.h"

namespace holdfast::postgres {

namespace {

/// Debian keeps every major version's programs in a directory of its own here.
constexpr const char* kDebianPrograms = "/usr/lib/postgresql";

std::vector<std::filesystem::path> installed(const Stop& stop) {
  std::vector<std::filesystem::path> found;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(kDebianPrograms, none)) {
    if (programs_major(entry.path() / "bin", stop)) found.push_back(entry.path() / "bin");
  }
  std::ranges::sort(found);
  return found;
}

}  // namespace

std::optional<int> programs_major(const std::filesystem::path& directory, const Stop& stop) {
  return program_major(directory, "postgres", stop);
}

std::optional<int> program_major(const std::filesystem::path& directory, const std::string& program,
                                 const Stop& stop) {
  const std::filesystem::path path = directory / program;
  std::error_code none;
  if (!std::filesystem::is_regular_file(path, none)) return std::nullopt;
  const ChildResult answer = run_child({.arguments = {path.string(), "--version"}}, stop);
  // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
  constexpr std::string_view kBefore = "(PostgreSQL) ";
  const std::size_t at = answer.output.find(kBefore);
  if (answer.exit_code != 0 || at == std::string::npos) return std::nullopt;
  int major = 0;
  const char* begin = answer.output.data() + at + kBefore.size();
  const auto [end, error] =
      std::from_chars(begin, answer.output.data() + answer.output.size(), major);
  if (error != std::errc()) return std::nullopt;
  return major;
}

std::optional<std::filesystem::path> find_program(const std::vector<std::filesystem::path>& given,
                                                  int major, const std::string& program,
                                                  const Stop& stop) {
  for (const auto& directory : given) {
    if (program_major(directory, program, stop) == major) return directory;
  }
  const auto usual = std::filesystem::path(kDebianPrograms) / std::to_string(major) / "bin";
  if (program_major(usual, program, stop) == major) return usual;
  return std::nullopt;
}

std::filesystem::path choose_pg_bin(const ProgramsWanted& wanted, const Stop& stop) {
  if (wanted.major) {
    for (const auto& directory : wanted.given) {
      if (programs_major(directory, stop) == wanted.major) return directory;
    }
    if (!wanted.given.empty()) {
      throw Error(sqlstate::kUndefinedFile,
                  fmt::format("no programs of PostgreSQL {} in the directories given with --pg-bin",
                              *wanted.major))
          .hint("Give the directory that holds this version's postgres and pg_ctl.");
    }
    return find_pg_bin(wanted.data_directory, *wanted.major, {}, stop);
  }
  for (const auto& directory : wanted.given) {
    if (programs_major(directory, stop)) return directory;
  }
  if (!wanted.remembered.empty() && programs_major(wanted.remembered, stop))
    return wanted.remembered;
  const std::vector<std::filesystem::path> candidates = installed(stop);
  if (candidates.size() == 1) return candidates.front();
  std::string names;
  for (const auto& candidate : candidates)
    names += (names.empty() ? "" : ", ") + candidate.string();
  throw Error(sqlstate::kUndefinedFile,
              fmt::format("cannot tell which PostgreSQL belongs to the lost data directory \"{}\"",
                          wanted.data_directory.string()))
      .detail(candidates.empty() ? fmt::format("None is installed under {}.", kDebianPrograms)
                                 : fmt::format("Installed are {}.", names))
      .hint("Name its programs when you start holdfast: --pg-bin DIR.");
}

}  // namespace holdfast::postgres
