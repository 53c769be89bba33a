#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <functional>
#include <set>
#include <string_view>

#include "base/error.h"
#include "postgres/file_bytes.h"
#include "postgres/instance.h"

namespace holdfast::postgres {
namespace {

namespace fs = std::filesystem;

// Files may include each other in a circle or very deep. Source: PostgreSQL
// src/backend/utils/misc/conffiles.h (CONF_FILE_MAX_DEPTH).
constexpr int kMaxDepth = 10;

struct Directive {
  std::string name;  // lower case
  std::string value;
};

// "name = 'value'  # comment": the equal sign is optional, quotes are doubled or escaped.
std::optional<Directive> parse_line(std::string_view line) {
  std::size_t at = 0;
  const auto skip_space = [&] {
    while (at < line.size() && std::isspace(static_cast<unsigned char>(line[at]))) ++at;
  };
  skip_space();
  Directive directive;
  while (at < line.size() && (std::isalnum(static_cast<unsigned char>(line[at])) ||
                              line[at] == '_' || line[at] == '.')) {
    directive.name += static_cast<char>(std::tolower(static_cast<unsigned char>(line[at++])));
  }
  if (directive.name.empty()) return std::nullopt;
  skip_space();
  if (at < line.size() && line[at] == '=') ++at;
  skip_space();
  if (at < line.size() && (line[at] == '\'' || line[at] == '"')) {
    const char quote = line[at++];
    while (at < line.size()) {
      if (line[at] == quote) {
        if (at + 1 < line.size() && line[at + 1] == quote) {
          ++at;
        } else {
          break;
        }
      } else if (line[at] == '\\' && at + 1 < line.size()) {
        ++at;
      }
      directive.value += line[at++];
    }
  } else {
    while (at < line.size() && line[at] != '#' &&
           !std::isspace(static_cast<unsigned char>(line[at]))) {
      directive.value += line[at++];
    }
  }
  return directive;
}

void for_each_line(std::string_view text, const std::function<void(std::string_view)>& visit) {
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    visit(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

// Follows include, include_if_exists and include_dir, which the main, the authentication (16) and
// the user name map file (16) share, and the "@file" lists of the latter two.
class Collector {
 public:
  /// Reads `path` and what it includes; `visit` gets the main file's other directives.
  void read(const fs::path& path, int depth, const std::function<void(const Directive&)>& visit) {
    std::error_code absent;
    if (depth > kMaxDepth || !fs::is_regular_file(path, absent)) return;
    if (!files.insert(path.lexically_normal()).second) return;
    std::optional<std::string> content;
    try {
      content = read_small_file(path);
    } catch (const Error&) {
      // What the server may read and we may not is named all the same; whoever copies it will fail
      // with its name.
      return;
    }
    for_each_line(content.value_or(""), [&](std::string_view line) {
      follow_lists(line, path, depth);
      const auto directive = parse_line(line);
      if (!directive) return;
      if (directive->name == "include" || directive->name == "include_if_exists") {
        read(resolve(path, directive->value), depth + 1, visit);
      } else if (directive->name == "include_dir") {
        read_directory(resolve(path, directive->value), depth + 1, visit);
      } else {
        visit(*directive);
      }
    });
  }

  std::set<fs::path> files;

 private:
  static fs::path resolve(const fs::path& including, const std::string& named) {
    return fs::path(named).is_absolute() ? fs::path(named) : including.parent_path() / named;
  }

  void read_directory(const fs::path& directory, int depth,
                      const std::function<void(const Directive&)>& visit) {
    std::error_code absent;
    std::set<fs::path> sorted;
    for (const auto& entry : fs::directory_iterator(directory, absent)) {
      const auto name = entry.path().filename().string();
      if (name.ends_with(".conf") && !name.starts_with('.')) sorted.insert(entry.path());
    }
    for (const auto& file : sorted) read(file, depth, visit);
  }

  void follow_lists(std::string_view line, const fs::path& path, int depth) {
    const auto name = path.filename().string();
    if (name.find("hba") == std::string::npos && name.find("ident") == std::string::npos) return;
    line = line.substr(0, line.find('#'));
    for (auto at = line.find('@'); at != std::string_view::npos; at = line.find('@', at + 1)) {
      // Only at the beginning of a word; "user@realm" is a name.
      const bool begins = at == 0 || line[at - 1] == ',' || line[at - 1] == ' ' ||
                          line[at - 1] == '\t' || line[at - 1] == '"';
      if (!begins) continue;
      const auto end = std::min(line.find_first_of(", \t\"\r", at + 1), line.size());
      if (end > at + 1) {
        read(resolve(path, std::string(line.substr(at + 1, end - at - 1))), depth + 1,
             [](const Directive&) {});
      }
    }
  }
};

bool is_inside(const fs::path& path, const fs::path& directory) {
  std::error_code ignored;
  const auto resolved = fs::weakly_canonical(path, ignored).lexically_normal();
  const auto base = fs::weakly_canonical(directory, ignored).lexically_normal();
  const auto [base_end, path_at] =
      std::mismatch(base.begin(), base.end(), resolved.begin(), resolved.end());
  return base_end == base.end();
}

// Debian's tools keep these beside postgresql.conf. Source: postgresql-common's pg_createcluster(1)
// and pg_ctlcluster(1).
constexpr std::string_view kDebianConfigs = "/etc/postgresql/";
constexpr std::string_view kDebianFiles[] = {"pg_ctl.conf", "start.conf", "environment"};

void fill_outside(ConfigFiles& files, const fs::path& data_directory, Collector& collector) {
  for (const auto* file : {&files.hba_file, &files.ident_file}) {
    collector.read(*file, 0, [](const Directive&) {});
  }
  if (files.config_file.string().starts_with(kDebianConfigs)) {
    for (const auto name : kDebianFiles) {
      const auto path = files.config_file.parent_path() / name;
      std::error_code absent;
      if (fs::is_regular_file(path, absent)) collector.files.insert(path);
    }
  }
  for (const auto& file : collector.files) {
    if (!is_inside(file, data_directory)) files.outside.push_back(file);
  }
}

}  // namespace

ConfigFiles find_config_files(Connection& connection, const fs::path& data_directory,
                              const Stop& stop) {
  const QueryResult result = connection.query(
      "SELECT pg_catalog.current_setting('config_file'), pg_catalog.current_setting('hba_file'), "
      "pg_catalog.current_setting('ident_file')",
      stop);
  ConfigFiles files{.config_file = result.text(0, 0),
                    .hba_file = result.text(0, 1),
                    .ident_file = result.text(0, 2),
                    .outside = {}};
  Collector collector;
  collector.read(files.config_file, 0, [](const Directive&) {});
  fill_outside(files, data_directory, collector);
  return files;
}

ConfigFiles find_config_files(const fs::path& data_directory) {
  ConfigFiles files{.config_file = data_directory / "postgresql.conf",
                    .hba_file = data_directory / "pg_hba.conf",
                    .ident_file = data_directory / "pg_ident.conf",
                    .outside = {}};
  const auto words = read_postmaster_opts(data_directory);
  const auto option = [&](std::string_view name) -> std::optional<fs::path> {
    for (std::size_t i = 1; i < words.size(); ++i) {
      std::string_view word = words[i];
      if (word.starts_with("--")) {
        word.remove_prefix(2);
      } else if (word == "-c" && i + 1 < words.size()) {
        word = words[i + 1];
      }
      if (word.starts_with(name) && word.substr(name.size()).starts_with('=')) {
        return fs::path(word.substr(name.size() + 1));
      }
    }
    return std::nullopt;
  };
  if (const auto given = option("config_file")) files.config_file = *given;
  Collector collector;
  const auto absolute = [&](const std::string& value) {
    return fs::path(value).is_absolute() ? fs::path(value) : data_directory / value;
  };
  collector.read(files.config_file, 0, [&](const Directive& directive) {
    if (directive.name == "hba_file") files.hba_file = absolute(directive.value);
    if (directive.name == "ident_file") files.ident_file = absolute(directive.value);
  });
  if (const auto given = option("hba_file")) files.hba_file = *given;
  if (const auto given = option("ident_file")) files.ident_file = *given;
  fill_outside(files, data_directory, collector);
  return files;
}

std::vector<fs::path> find_debian_clusters(const fs::path& root, int major,
                                           const fs::path& data_directory) {
  std::error_code ignored;
  const auto wanted = fs::weakly_canonical(data_directory, ignored);
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(root / std::to_string(major), ignored)) {
    fs::path configured;
    Collector().read(entry.path() / "postgresql.conf", 0, [&](const Directive& directive) {
      if (directive.name == "data_directory") configured = directive.value;
    });
    if (!configured.empty() && fs::weakly_canonical(configured, ignored) == wanted) {
      found.push_back(entry.path());
    }
  }
  std::ranges::sort(found);
  return found;
}

}  // namespace holdfast::postgres
