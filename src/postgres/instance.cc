#include "postgres/instance.h"

#include <fmt/core.h>
#include <signal.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "base/error.h"
#include "postgres/file_bytes.h"
#include "postgres/programs.h"
#include "postgres/versions.h"

namespace holdfast::postgres {
namespace {

template <typename T>
T number_or_zero(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return 0;
  T value = 0;
  std::from_chars(text.data() + first, text.data() + text.size(), value);
  return value;
}

std::string trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1));
}

// The name is world-readable, unlike the link to the program.
bool is_postgres(pid_t pid) {
  const auto name = read_small_file(fmt::format("/proc/{}/comm", pid));
  return name && (trim(*name) == "postgres" || trim(*name) == "postmaster");
}

// A process number may have been given to another cluster's postmaster since. A postmaster works in
// its data directory; who may not look at that takes its word.
bool works_in(pid_t pid, const std::filesystem::path& data_directory) {
  std::error_code unreadable;
  const auto working = std::filesystem::read_symlink(fmt::format("/proc/{}/cwd", pid), unreadable);
  if (unreadable) return true;
  const auto canonical = std::filesystem::weakly_canonical(data_directory, unreadable);
  return unreadable || working == canonical;
}

}  // namespace

std::optional<PostmasterPid> parse_postmaster_pid(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  const auto line = [&](std::size_t number) {
    return number <= lines.size() ? lines[number - 1] : std::string_view();
  };
  PostmasterPid postmaster;
  // Negative for a standalone backend.
  postmaster.pid = std::abs(number_or_zero<pid_t>(line(1)));
  if (postmaster.pid == 0) return std::nullopt;
  postmaster.data_directory = trim(line(2));
  postmaster.start_time = number_or_zero<std::int64_t>(line(3));
  postmaster.port = number_or_zero<int>(line(4));
  postmaster.socket_directory = trim(line(5));
  postmaster.listen_address = trim(line(6));
  postmaster.status = trim(line(8));
  return postmaster;
}

int read_pg_version(const std::filesystem::path& data_directory) {
  const auto path = data_directory / "PG_VERSION";
  const auto content = read_small_file(path, 64);
  if (!content) {
    throw Error(sqlstate::kUndefinedFile,
                fmt::format("\"{}\" is not a PostgreSQL data directory", data_directory.string()))
        .detail(fmt::format("File \"{}\" does not exist.", path.string()));
  }
  const int major = number_or_zero<int>(*content);
  return version_facts(major).major;
}

std::optional<PostmasterPid> find_postmaster(const std::filesystem::path& data_directory) {
  const auto content = read_small_file(data_directory / "postmaster.pid", 16 * 1024);
  if (!content) return std::nullopt;
  auto postmaster = parse_postmaster_pid(*content);
  if (!postmaster || !is_postgres(postmaster->pid) || !works_in(postmaster->pid, data_directory)) {
    return std::nullopt;
  }
  return postmaster;
}

std::string conninfo_for(const PostmasterPid& postmaster) {
  std::string host = postmaster.socket_directory;
  if (host.empty()) {
    host = postmaster.listen_address;
    if (host.empty() || host == "*" || host == "0.0.0.0") host = "127.0.0.1";
    if (host == "::") host = "::1";
  }
  std::string quoted;
  for (const char c : host) {
    if (c == '\'' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return fmt::format("host='{}' port={} dbname=postgres", quoted, postmaster.port);
}

// Source: PostgreSQL src/backend/postmaster/postmaster.c (CreateOptsFile): the program unquoted,
// then each argument in double quotes, nothing escaped.
std::vector<std::string> read_postmaster_opts(const std::filesystem::path& data_directory) {
  const auto content = read_small_file(data_directory / "postmaster.opts");
  std::vector<std::string> words;
  if (!content) return words;
  std::string_view rest = *content;
  rest = rest.substr(0, rest.find('\n'));
  const auto program_end = std::min(rest.find(" \""), rest.size());
  words.push_back(trim(rest.substr(0, program_end)));
  rest.remove_prefix(program_end);
  while (rest.starts_with(" \"")) {
    rest.remove_prefix(2);
    // An argument may hold quotes itself: it ends at a quote that is followed by the next one.
    auto end = rest.find("\" \"");
    if (end == std::string_view::npos) end = rest.rfind('"');
    if (end == std::string_view::npos) break;
    words.emplace_back(rest.substr(0, end));
    rest.remove_prefix(end + 1);
  }
  return words;
}

std::filesystem::path find_pg_bin(const std::filesystem::path& data_directory, int major,
                                  const std::filesystem::path& given, const Stop& stop) {
  std::vector<std::filesystem::path> candidates;
  if (!given.empty()) {
    candidates.push_back(given);
  } else {
    if (const auto postmaster = find_postmaster(data_directory)) {
      std::error_code unreadable;
      const auto program =
          std::filesystem::read_symlink(fmt::format("/proc/{}/exe", postmaster->pid), unreadable);
      if (!unreadable) candidates.push_back(program.parent_path());
    }
    if (const auto words = read_postmaster_opts(data_directory); !words.empty()) {
      candidates.push_back(std::filesystem::path(words[0]).parent_path());
    }
    candidates.emplace_back(fmt::format("/usr/lib/postgresql/{}/bin", major));
    const char* path = std::getenv("PATH");
    std::string_view directories = path != nullptr ? path : "";
    while (!directories.empty()) {
      const auto end = std::min(directories.find(':'), directories.size());
      if (end > 0) candidates.emplace_back(directories.substr(0, end));
      directories.remove_prefix(std::min(end + 1, directories.size()));
    }
  }
  for (const auto& candidate : candidates) {
    if (programs_major(candidate, stop) == major) return candidate;
  }
  std::string tried;
  for (const auto& candidate : candidates) {
    tried += (tried.empty() ? "" : ", ") + candidate.string();
  }
  throw Error(sqlstate::kUndefinedFile,
              fmt::format("could not find the programs of PostgreSQL {}", major))
      .detail(fmt::format("Looked in {}.", tried))
      .hint("Name their directory with --pg-bin.");
}

}  // namespace holdfast::postgres
