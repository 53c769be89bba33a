#include "postgres/testing/private_instance.h"

#include <fmt/core.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <utility>

#include "base/error.h"
#include "postgres/child_process.h"
#include "postgres/instance.h"

namespace holdfast::postgres::testing {
namespace {

constexpr const char* kUser = "postgres";
constexpr std::chrono::minutes kTimeout{2};

std::filesystem::path default_pg_bin() {
  if (const char* given = std::getenv("HOLDFAST_TEST_PG_BIN"); given != nullptr && *given != '\0') {
    return given;
  }
  return "/usr/lib/postgresql/15/bin";
}

}  // namespace

PrivateInstance::PrivateInstance(PrivateInstanceOptions options) : options_(std::move(options)) {
  if (options_.pg_bin.empty()) options_.pg_bin = default_pg_bin();
  make_root();
  data_directory_ = root_ / "data";
  std::vector<std::string> initdb = {options_.pg_bin / "initdb", "--pgdata",     data_directory_,
                                     "--username=postgres",      "--auth=trust", "--no-sync",
                                     "--encoding=UTF8",          "--locale=C"};
  // 18 has checksums on by default; before it there is no option to turn them off.
  const bool off_by_option =
      !options_.checksums &&
      run({options_.pg_bin / "postgres", "--version"}).find(" 18") != std::string::npos;
  if (options_.checksums) initdb.push_back("--data-checksums");
  if (off_by_option) initdb.push_back("--no-data-checksums");
  initdb.insert(initdb.end(), options_.initdb_arguments.begin(), options_.initdb_arguments.end());
  run(initdb);
  {
    std::ofstream config(data_directory_ / "postgresql.conf", std::ios::app);
    config << "listen_addresses = ''\nunix_socket_directories = '" << root_.string()
           << "'\nfsync = off\nmax_wal_senders = 10\nmax_replication_slots = 10\n"
           << "logging_collector = off\nshared_buffers = 32MB\n";
    for (const auto& setting : options_.settings) config << setting << '\n';
    if (!config.flush()) throw_errno("write postgresql.conf");
  }
  if (options_.start) start();
}

PrivateInstance PrivateInstance::adopt(std::filesystem::path data_directory,
                                       PrivateInstanceOptions options) {
  return PrivateInstance(Adopt{}, std::move(data_directory), std::move(options));
}

PrivateInstance::PrivateInstance(Adopt, std::filesystem::path data_directory,
                                 PrivateInstanceOptions options)
    : options_(std::move(options)), data_directory_(std::move(data_directory)) {
  if (options_.pg_bin.empty()) options_.pg_bin = default_pg_bin();
  make_root();
  give(data_directory_);
  if (options_.start) start();
}

PrivateInstance::PrivateInstance(PrivateInstance&& other) noexcept
    : options_(std::move(other.options_)),
      root_(std::exchange(other.root_, {})),
      data_directory_(std::move(other.data_directory_)) {}

PrivateInstance::~PrivateInstance() {
  if (root_.empty()) return;
  try {
    // Somebody else may have stopped or started it meanwhile.
    if (running()) stop("immediate");
  } catch (const std::exception& error) {
    fmt::print(stderr, "could not stop the private instance: {}\n", error.what());
  }
  std::error_code ignored;
  std::filesystem::remove_all(root_, ignored);
}

bool PrivateInstance::running() const { return find_postmaster(data_directory_).has_value(); }

std::string PrivateInstance::conninfo(const std::string& database) const {
  return fmt::format("host={} port={} user=postgres dbname={}", root_.string(), port(), database);
}

Connection PrivateInstance::connect(const std::string& database) const {
  return Connection::open(
      {.conninfo = conninfo(), .database = database, .replication = false, .settings = {}},
      Stop::never());
}

QueryResult PrivateInstance::execute(const std::string& sql, const std::string& database) const {
  return connect(database).simple_query(sql, Stop::never());
}

void PrivateInstance::start() {
  run({options_.pg_bin / "pg_ctl", "start", "-w", "-s", "-D", data_directory_, "-l",
       root_ / "server.log", "-o",
       fmt::format("-k {} -c listen_addresses='' -c port={}", root_.string(), port())});
}

void PrivateInstance::stop(const std::string& mode) {
  run({options_.pg_bin / "pg_ctl", "stop", "-w", "-s", "-D", data_directory_, "-m", mode});
}

std::string PrivateInstance::run(const std::vector<std::string>& arguments) const {
  std::vector<std::string> words;
  if (::geteuid() == 0) words = {"runuser", "-u", kUser, "--"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  const ChildResult result = run_child({.arguments = words, .timeout = kTimeout}, Stop::never());
  if (result.exit_code != 0) {
    std::string log;
    if (std::ifstream file(root_ / "server.log"); file) {
      log.assign(std::istreambuf_iterator<char>(file), {});
    }
    throw Error(sqlstate::kSystemError,
                fmt::format("program \"{}\" failed with exit code {}: {}\n{}", arguments[0],
                            result.exit_code, result.output, log));
  }
  return result.output;
}

void PrivateInstance::give(const std::filesystem::path& path) const {
  if (::geteuid() != 0) return;
  const passwd* user = ::getpwnam(kUser);
  if (user == nullptr) throw Error(sqlstate::kUndefinedObject, "there is no user \"postgres\"");
  const auto give_one = [&](const std::filesystem::path& one) {
    if (::lchown(one.c_str(), user->pw_uid, user->pw_gid) != 0) throw_errno("change an owner");
  };
  give_one(path);
  if (!std::filesystem::is_directory(path)) return;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) give_one(entry);
}

void PrivateInstance::make_root() {
  // Short, because a socket path has at most 107 bytes.
  std::string pattern = "/tmp/holdfast-pg-XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) throw_errno("create a directory in /tmp");
  root_ = pattern;
  give(root_);
}

}  // namespace holdfast::postgres::testing
