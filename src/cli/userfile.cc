#include "cli/userfile.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fnmatch.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <ostream>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "cli/client_certificate.h"
#include "daemon/userfile_store.h"
#include "postgres/connection.h"
#include "storage/keys.h"
#include "storage/userfile_uri.h"

namespace holdfast::cli {

namespace {

namespace fs = std::filesystem;

using Command = UserfileOptions::Command;
using storage::ObjectKey;
using storage::UserfilePlace;

constexpr std::string_view kGlobCharacters = "*?[";

/// A value of a libpq connection string.
std::string quoted(const std::string& value) {
  std::string text = "'";
  for (const char c : value) {
    if (c == '\'' || c == '\\') text.push_back('\\');
    text.push_back(c);
  }
  return text + "'";
}

postgres::ConnectOptions connect_options(const UserfileOptions& options) {
  auto parameters = postgres::conninfo_parameters(options.url);
  if (!options.user.empty()) parameters["user"] = options.user;
  if (!options.certs_dir.empty()) {
    const fs::path directory = options.certs_dir;
    const std::string client = client_certificate(
        directory, parameters["user"], parse_cert_principal_map(options.cert_principal_map));
    parameters["sslrootcert"] = directory / "ca.crt";
    if (!client.empty()) {
      parameters["sslcert"] = directory / (client + ".crt");
      parameters["sslkey"] = directory / (client + ".key");
    }
    parameters.try_emplace("sslmode", "verify-full");
  }
  std::string conninfo;
  for (const auto& [name, value] : parameters) {
    conninfo += fmt::format("{}={} ", name, quoted(value));
  }
  return {.conninfo = conninfo};
}

Error failed(const fs::path& path, std::string_view verb, int error) {
  return Error(sqlstate::kIoError, fmt::format("could not {} \"{}\": {}", verb, path.string(),
                                               std::system_category().message(error)));
}

Bytes read_file(const fs::path& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) throw failed(path, "open", errno);
  Bytes bytes;
  Bytes block(1U << 20);
  for (;;) {
    const ssize_t got = ::read(file.get(), block.data(), block.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw failed(path, "read", errno);
    if (got == 0) return bytes;
    bytes.insert(bytes.end(), block.begin(), block.begin() + got);
    storage::check_size(path.string(), bytes);
  }
}

/// Never overwrites: the reference promises it.
void write_file(const fs::path& path, ByteView bytes) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file) throw failed(path, "create", errno);
  while (!bytes.empty()) {
    const ssize_t written = ::write(file.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw failed(path, "write", errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void make_directories(const fs::path& path) {
  fs::path made;
  for (const fs::path& part : path) {
    made /= part;
    if (::mkdir(made.c_str(), 0700) != 0 && errno != EEXIST) throw failed(made, "create", errno);
  }
}

class Userfile {
 public:
  Userfile(const UserfileOptions& options, std::ostream& out, std::ostream& errors)
      : options_(options), connect_(connect_options(options)), out_(out), errors_(errors) {}

  void run() {
    switch (options_.command) {
      case Command::Upload:
        return options_.recursive ? upload_directory() : upload_file();
      case Command::List:
        for (const ObjectKey& name : matching()) out_ << name << '\n';
        return;
      case Command::Get:
        return get();
      case Command::Delete:
        for (const ObjectKey& name : some_matching()) {
          store_->remove(name, stop_);
          out_ << "successfully deleted " << name << std::endl;
        }
        return;
    }
  }

 private:
  /// The tables that are meant, and what is meant in them: a path as it was written.
  struct Meant {
    UserfilePlace tables;
    std::string path;
  };
  Meant meant(const std::string& text) {
    if (!storage::is_userfile(text)) {
      return {.tables = storage::parse_userfile_uri("userfile:///", user()), .path = text};
    }
    const storage::StorageUri uri = storage::parse_uri(text);
    const std::string host = text.substr(0, text.find('/', std::string_view("userfile://").size()));
    return {.tables = storage::parse_userfile_uri(host + "/", uri.host.empty() ? user() : ""),
            .path = uri.path};
  }

  std::string user() {
    auto connection = postgres::Connection::open(connect_, stop_);
    return connection.query("SELECT current_user", stop_).text(0, 0);
  }

  void open(const UserfilePlace& tables) {
    store_ = daemon::open_userfile_store(tables, {.connect = [this] { return connect_; },
                                                  .echo =
                                                      [this](std::string_view statement) {
                                                        if (options_.echo_sql)
                                                          errors_ << "> " << statement << std::endl;
                                                      }});
  }

  static std::string plain(const std::string& path) {
    const std::string given = path.substr(std::min(path.find_first_not_of('/'), path.size()));
    const std::string clean = storage::clean_userfile_path(given);
    if (clean == given) return clean;
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("path {} changes after normalization to {}. userfile upload does not "
                            "permit such path constructs",
                            path, clean));
  }

  void put(const fs::path& source, const std::string& name) {
    const Bytes bytes = read_file(source);
    if (store_->put(name, bytes, storage::PutMode::OnlyIfAbsent, stop_) ==
        storage::PutResult::Taken) {
      throw Error(sqlstate::kDuplicateFile,
                  fmt::format("destination file already exists for {}", name))
          .hint("Delete it first with holdfast userfile delete.");
    }
  }

  void upload_file() {
    const fs::path source = options_.source;
    if (fs::is_directory(source)) {
      throw Error(sqlstate::kInvalidParameterValue,
                  fmt::format("source file {} is a directory, not a file", options_.source))
          .hint("Upload a directory with --recursive.");
    }
    Meant to = meant(options_.pattern.empty() ? source.filename().string() : options_.pattern);
    const std::string name = plain(to.path);
    open(to.tables);
    put(source, name);
    to.tables.path = name;
    out_ << "successfully uploaded to " << to.tables.uri() << std::endl;
  }

  void upload_directory() {
    const fs::path source = options_.source;
    if (!fs::is_directory(source)) {
      throw Error(sqlstate::kInvalidParameterValue,
                  fmt::format("source {} is not a directory", options_.source));
    }
    // As rsync does: "dir/" means what is in it, "dir" means it.
    const bool contents = options_.source.ends_with('/');
    const std::string own_name = fs::absolute(contents ? source.parent_path() : source)
                                     .lexically_normal()
                                     .filename()
                                     .string();
    Meant to = meant(options_.pattern);
    std::string root = plain(to.path);
    if (root.empty() || !contents) root += (root.empty() ? "" : "/") + own_name;
    open(to.tables);
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(source)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
    std::ranges::sort(files);
    for (const fs::path& file : files) {
      const std::string relative = file.lexically_relative(source).string();
      out_ << "uploading: " << relative << std::endl;
      put(file, fmt::format("{}/{}", root, relative));
    }
    to.tables.path = root;
    out_ << "successfully uploaded all files in the subtree rooted at " << own_name << " to "
         << to.tables.uri() << std::endl;
  }

  /// Sorted; opens the store.
  std::vector<ObjectKey> matching() {
    Meant what = meant(options_.pattern);
    open(what.tables);
    what.path.erase(0, std::min(what.path.find_first_not_of('/'), what.path.size()));
    while (what.path.ends_with('/')) what.path.pop_back();
    std::vector<ObjectKey> found;
    store_->list(
        "",
        [&](const storage::ObjectInfo& info) {
          if (userfile_matches(info.key, what.path)) found.push_back(info.key);
        },
        stop_);
    std::ranges::sort(found);
    return found;
  }
  std::vector<ObjectKey> some_matching() {
    auto found = matching();
    if (found.empty()) {
      throw Error(sqlstate::kUndefinedFile, "no files matched requested path or path pattern");
    }
    return found;
  }

  void get() {
    const auto names = some_matching();
    const fs::path destination = options_.destination;
    for (const ObjectKey& name : names) {
      // Whoever can write to the tables chose it, and it becomes a path here.
      storage::check_key(name);
      fs::path target = destination / name;
      if (names.size() == 1) {
        const std::string base = fs::path(name).filename();
        const bool into = destination.empty() || fs::is_directory(destination);
        target = into ? destination / base : destination;
      }
      const auto bytes = storage::get_whole(*store_, name, storage::kMaxObjectBytes, stop_);
      if (!bytes) throw Error(sqlstate::kUndefinedFile, fmt::format("file {} has gone", name));
      make_directories(target.parent_path());
      write_file(target, *bytes);
      out_ << "downloaded " << name << " to " << target.string() << std::endl;
    }
  }

  const UserfileOptions& options_;
  const postgres::ConnectOptions connect_;
  std::ostream& out_;
  std::ostream& errors_;
  const Stop stop_ = Stop::never();
  std::unique_ptr<storage::ObjectStore> store_;
};

}  // namespace

bool userfile_matches(std::string_view name, const std::string& pattern) {
  if (pattern.empty()) return true;
  if (pattern.find_first_of(kGlobCharacters) != std::string::npos) {
    return ::fnmatch(pattern.c_str(), std::string(name).c_str(), FNM_PATHNAME) == 0;
  }
  return name.starts_with(pattern) &&
         (name.size() == pattern.size() || name[pattern.size()] == '/');
}

int run_userfile(const UserfileOptions& options, std::ostream& out, std::ostream& errors) {
  try {
    Userfile(options, out, errors).run();
    return 0;
  } catch (const Error& error) {
    errors << "ERROR: " << error.message() << '\n';
    if (!error.detail().empty()) errors << "DETAIL: " << error.detail() << '\n';
    if (!error.hint().empty()) errors << "HINT: " << error.hint() << '\n';
  } catch (const std::exception& error) {
    errors << "ERROR: " << error.what() << '\n';
  }
  return 1;
}

}  // namespace holdfast::cli
