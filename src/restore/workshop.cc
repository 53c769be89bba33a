#include "restore/workshop.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "base/worker_pool.h"
#include "collection/scope.h"
#include "io/file.h"
#include "postgres/catalog_pages.h"
#include "postgres/child_process.h"
#include "postgres/control_file.h"
#include "postgres/instance.h"
#include "postgres/page.h"
#include "postgres/programs.h"
#include "postgres/versions.h"
#include "restore/checks.h"
#include "restore/fill.h"
#include "restore/partial_layout.h"
#include "restore/recovery_files.h"
#include "restore/recovery_target.h"
#include "restore/scoped_wal.h"

namespace holdfast::restore {
namespace {

// Source: PostgreSQL src/include/catalog/pg_authid.h.
constexpr std::uint32_t kAuthIdOid = 1260;
constexpr std::uint32_t kBootstrapSuperuser = 10;

constexpr int kPort = 5432;  // only names the socket
constexpr std::chrono::minutes kStartPatience{60};
constexpr std::uint64_t kLogTailBytes = 4096;
constexpr std::uint64_t kCatalogLimit = 8ULL << 30;

void write_file(const std::string& path, std::string_view text) {
  io::FileSystem& files = io::FileSystem::real();
  io::remove_file(files, path);
  const UniqueFd fd = io::open_file(files, path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  io::write_all(files, fd.get(), as_bytes(text), path);
}

void end_server(const std::string& data_directory) {
  const auto postmaster = postgres::find_postmaster(data_directory);
  if (!postmaster) return;
  // Nothing of it is needed any more, so there is nothing to shut down for.
  ::kill(postmaster->pid, SIGQUIT);
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (postgres::find_postmaster(data_directory)) {
    if (std::chrono::steady_clock::now() >= patience) ::kill(postmaster->pid, SIGKILL);
    std::this_thread::sleep_for(kServerPollPause);
  }
}

/// For postgresql.conf and for libpq alike: both take a backslash before quotes and backslashes.
std::string quote_setting(const std::string& value) {
  std::string quoted = "'";
  for (const char c : value) {
    if (c == '\'' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "'";
}

}  // namespace

Workshop::Workshop(WorkshopOptions options)
    : options_(std::move(options)),
      major_(postgres::major_of(
          static_cast<int>(options_.chain.back().instance().server_version_num()))),
      data_(options_.directory + "/data"),
      tablespaces_(options_.directory + "/tablespaces"),
      sockets_(options_.directory + "/s") {
  io::remove_tree(options_.files, options_.directory);
  io::make_directories(options_.files, options_.directory);
  if (::chmod(options_.directory.c_str(), 0700) != 0) {
    throw_errno(fmt::format("set permissions of directory \"{}\"", options_.directory));
  }
  const std::string socket = fmt::format("{}/.s.PGSQL.{}", sockets_, kPort);
  if (socket.size() >= sizeof(sockaddr_un::sun_path)) {
    throw Error(sqlstate::kConfigFileError,
                fmt::format("the path of the store is too long for a socket: \"{}\"", socket))
        .hint("Start holdfast with a --store whose path is shorter.");
  }
}

std::filesystem::path find_server_programs(const std::vector<std::filesystem::path>& directories,
                                           const collection::proto::Manifest& manifest,
                                           const Stop& stop) {
  const int major = postgres::major_of(static_cast<int>(manifest.instance().server_version_num()));
  const auto found = postgres::find_program(directories, major, "postgres", stop);
  if (found) return *found;
  throw Error(
      sqlstate::kUndefinedFile,
      fmt::format("could not find the programs of PostgreSQL {}, the backup's version", major))
      .hint(
          "Install that version beside the server's own, or name its directory with another "
          "--pg-bin.");
}

std::vector<std::string> databases_to_try(const collection::proto::Manifest& manifest) {
  std::vector<std::string> names;
  if (!collection::is_scoped(manifest)) names = {"postgres", "template1"};
  for (const auto& object : manifest.objects()) {
    if (object.type() == "database") names.push_back(object.name());
  }
  return names;
}

Workshop::~Workshop() {
  try {
    stop_server();
    io::remove_tree(options_.files, options_.directory);
  } catch (const Error& error) {
    // The next start of the daemon removes it.
    log::warning("could not remove \"{}\": {}", options_.directory, error.message());
  }
}

void Workshop::stop_server() { end_server(data_); }

void Workshop::close() {
  stop_server();
  io::remove_tree(options_.files, data_);
  io::remove_tree(options_.files, tablespaces_);
}

void Workshop::end() {
  try {
    close();
  } catch (const Error& error) {
    log::warning("could not end the workshop yet: {}", error.message());
  }
}

std::string Workshop::read_file(const std::string& path) const {
  const auto bytes = io::read_whole(options_.files, data_ + "/" + path, kCatalogLimit);
  if (!bytes) {
    throw Error(sqlstate::kDataCorrupted, fmt::format("the backup lacks file \"{}\"", path));
  }
  return std::string(as_text(*bytes));
}

Layout Workshop::fill(const postgres::WalScope& scope, const Stop& stop,
                      const std::function<void(const Layout&, const Stop&)>& meanwhile) {
  Layout layout = make_partial_layout(options_.chain.back(), data_, tablespaces_, scope);
  check_space(layout, options_.chain.back());
  io::make_directories(options_.files, data_);
  for (const auto& space : layout.tablespaces) io::make_directories(options_.files, space.build);
  const auto may_hold = create_files(layout, options_.files, options_.workers, stop);
  run_workers(meanwhile ? 2 : 1, stop, [&](std::size_t number, const Stop& worker_stop) {
    if (number == 1) return meanwhile(layout, worker_stop);
    control_ = fill_files({.chain = options_.chain,
                           .layout = layout,
                           .may_hold_content = may_hold,
                           .store = options_.store,
                           .files = options_.files,
                           .workers = options_.workers,
                           .progress = [](std::uint64_t) {},
                           .before_pack = [] {}},
                          worker_stop);
  });
  make_blank_files(scope);
  return layout;
}

/// A page of zeros has no rows, so that whoever follows an index to it finds none. Nobody reads
/// these catalogs whole; the file takes no room.
void Workshop::make_blank_files(const postgres::WalScope& scope) {
  constexpr std::uint64_t kBytes =
      std::uint64_t{postgres::kRelationSegmentBlocks} * postgres::kPageBytes;
  for (const auto& database : options_.chain.back().scope_databases()) {
    if (!scope.wants_database(database.oid())) continue;
    for (const std::string& directory : directories_of(database.oid())) {
      for (const auto file : database.blank_files()) {
        const std::string path = fmt::format("{}/{}/{}", data_, directory, file);
        const UniqueFd fd = io::open_file(options_.files, path, O_WRONLY | O_CREAT, 0600);
        if (options_.files.truncate(fd.get(), static_cast<off_t>(kBytes)) != 0) {
          throw_errno(fmt::format("set size of file \"{}\"", path));
        }
      }
    }
  }
}

void Workshop::find_superusers(const Stop& stop) {
  stop.check();
  const auto map =
      postgres::parse_relation_map(as_bytes(read_file("global/pg_filenode.map")), major_);
  const auto found = map.find(kAuthIdOid);
  if (found == map.end()) throw Error(sqlstate::kDataCorrupted, "relation map lacks pg_authid");
  const std::string pages = read_file(fmt::format("global/{}", found->second));
  // Replay may have renamed it since it was looked at.
  std::set<std::string> names(superusers_.begin(), superusers_.end());
  postgres::scan_pg_authid(as_bytes(pages), [&](const postgres::RoleRow& row) {
    if (row.oid == kBootstrapSuperuser) names.insert(row.name);
  });
  superusers_.assign(names.begin(), names.end());
  if (superusers_.empty()) {
    throw Error(sqlstate::kDataCorrupted, "the backup's roles lack the bootstrap superuser");
  }
}

void Workshop::configure(const Layout& layout, const Bytes& control) const {
  const auto facts = postgres::parse_control_file(control, postgres::kControlFilePath);
  const std::string log = options_.directory + "/postgresql.log";
  std::string text = fmt::format(
      "listen_addresses = ''\n"
      "port = {}\n"
      "unix_socket_directories = {}\n"
      "unix_socket_permissions = 0700\n"
      // Nothing that acts by itself, or reaches out.
      "archive_mode = off\n"
      "autovacuum = off\n"
      "max_wal_senders = 0\n"
      "max_logical_replication_workers = 0\n"
      "shared_preload_libraries = ''\n"
      "session_preload_libraries = ''\n"
      "local_preload_libraries = ''\n"
      "jit = off\n"
      "restart_after_crash = off\n"
      // Nothing in it need survive.
      "fsync = off\n"
      "synchronous_commit = off\n"
      "full_page_writes = off\n"
      "wal_level = minimal\n"
      "max_wal_size = '16GB'\n"
      "shared_buffers = '64MB'\n"
      // Tablespaces that recovery makes by itself are plain directories.
      "allow_in_place_tablespaces = on\n"
      // Transactions that were prepared at the moment come back.
      "max_prepared_transactions = {}\n"
      "max_connections = 100\n"
      "max_locks_per_transaction = {}\n"
      "logging_collector = off\n"
      "lc_messages = 'C'\n",
      kPort, quote_setting(sockets_), facts.max_prepared_transactions + 100,
      std::max(facts.max_locks_per_transaction, 256));
  if (major_ >= 17) text += "event_triggers = off\nsummarize_wal = off\n";
  if (facts.track_commit_timestamp) text += "track_commit_timestamp = on\n";
  write_file(layout.root + "/postgresql.conf", text);
  write_file(layout.root + "/pg_hba.conf", "local all all trust\n");
  write_file(layout.root + "/pg_ident.conf", "");
  io::make_directories(options_.files, sockets_);
}

std::string Workshop::start(const postgres::WalScope& scope,
                            const std::vector<std::string>& databases, const Stop& stop) {
  close();
  const auto& manifest = options_.chain.back();
  // Files mostly wait for the disk, WAL for the processor.
  const Layout layout = fill(scope, stop, [&](const Layout& files, const Stop& wal_stop) {
    restore_scoped_wal(manifest, options_.target, files, scope, options_.store, options_.files,
                       wal_stop);
  });
  find_superusers(stop);
  write_recovery_files(
      manifest, options_.target, layout,
      options_.target != nullptr ? options_.target->timeline() : manifest.stop().timeline(),
      options_.store, options_.files, stop);
  configure(layout, control_);
  io::write_file_atomically(options_.files, fmt::format("{}/{}", data_, postgres::kControlFilePath),
                            control_, 0600);
  start_server(stop);
  std::string database = wait_ready(databases, stop);
  if (options_.target != nullptr) require_recovered_to(*options_.target, data_);
  return database;
}

/// Not waited for: the connection is.
void Workshop::start_server(const Stop& stop) {
  const auto started =
      postgres::run_child({.arguments = {options_.pg_bin / "pg_ctl", "start", "-D", data_, "-W",
                                         "-s", "-l", options_.directory + "/postgresql.log"}},
                          stop);
  if (started.exit_code != 0) {
    throw Error(sqlstate::kSystemError, "could not start the workshop instance")
        .detail(started.output + log_tail());
  }
}

std::string Workshop::wait_ready(const std::vector<std::string>& databases, const Stop& stop) {
  const auto deadline = std::chrono::steady_clock::now() + kStartPatience;
  std::size_t candidate = 0;
  std::size_t database = 0;
  bool seen = false;
  while (true) {
    stop.check();
    const auto postmaster = postgres::find_postmaster(data_);
    seen = seen || postmaster;
    // Between pg_ctl's return and the postmaster's first file there is a moment.
    const bool gone =
        !postmaster && (seen || std::chrono::steady_clock::now() >
                                    deadline - kStartPatience + std::chrono::seconds(10));
    if (gone || std::chrono::steady_clock::now() >= deadline) {
      throw not_recovered();
    }
    superuser_ = superusers_[candidate];
    try {
      postgres::Connection connection =
          postgres::Connection::open(connect(databases.at(database)), stop);
      if (!connection.query("SELECT pg_catalog.pg_is_in_recovery()", stop).boolean(0, 0)) {
        return databases[database];
      }
    } catch (const Error& error) {
      // It was dropped or renamed, or takes no connections.
      if ((error.state() == sqlstate::kInvalidCatalogName ||
           error.state() == sqlstate::kObjectNotInPrerequisiteState) &&
          database + 1 < databases.size()) {
        ++database;
        continue;
      }
      if (error.state() == sqlstate::kInvalidAuthorization ||
          error.state() == sqlstate::kInvalidPassword) {
        // A name that the role no longer has, or does not have yet, at this moment.
        if (++candidate == superusers_.size()) throw;
        continue;
      }
      if (error.state() != sqlstate::kCannotConnectNow &&
          error.state() != sqlstate::kConnectionFailure) {
        throw;
      }
    }
    stop.sleep(kServerPollPause);
  }
}

postgres::ConnectOptions Workshop::connect(const std::string& database) const {
  // The file's settings yield to those of roles and databases, and both to the client's options.
  // Libraries are loaded, and login triggers fired, before the first statement. Rows are read in
  // their order, wherever another scan of the table stands.
  // Source: PostgreSQL src/backend/utils/init/postinit.c (InitPostgres).
  std::string session =
      "-c session_preload_libraries= -c local_preload_libraries= -c role=none "
      "-c session_replication_role=replica -c default_transaction_read_only=off "
      "-c row_security=off -c synchronize_seqscans=off -c search_path=pg_catalog,pg_temp";
  if (major_ >= 17) session += " -c event_triggers=off";
  std::string conninfo = fmt::format("host={} port={} user={} options={}", quote_setting(sockets_),
                                     kPort, quote_setting(superuser_), quote_setting(session));
  return {.conninfo = std::move(conninfo),
          .database = database,
          .settings = {{"search_path", "pg_catalog, pg_temp"}, {"row_security", "off"}}};
}

postgres::ConnectOptions Workshop::connect_as(const std::string& role,
                                              const std::string& database) const {
  constexpr std::string_view kSession =
      "-c local_preload_libraries= -c role=none -c row_security=off -c synchronize_seqscans=off "
      "-c standard_conforming_strings=on -c search_path=pg_catalog";
  return {.conninfo = fmt::format("host={} port={} user={} options={}", quote_setting(sockets_),
                                  kPort, quote_setting(role), quote_setting(std::string(kSession))),
          .database = database,
          .settings = {{"search_path", "pg_catalog"}, {"row_security", "off"}}};
}

postgres::Connection Workshop::open(const std::string& database, const Stop& stop) {
  postgres::Connection connection = postgres::Connection::open(connect(database), stop);
  // Those that fire always do so in spite of session_replication_role, and before version 17 there
  // is no setting against them. Changing rows of a catalog fires none.
  const auto found =
      connection.query("SELECT evtname, evtenabled FROM pg_catalog.pg_event_trigger", stop);
  auto [kept, first] = event_triggers_.try_emplace(database);
  for (std::size_t row = 0; first && row < found.rows(); ++row) {
    kept->second.push_back({.name = found.text(row, 0), .enabled = found.text(row, 1).at(0)});
  }
  connection.simple_query(
      "UPDATE pg_catalog.pg_event_trigger SET evtenabled = 'D' WHERE evtenabled <> 'D'", stop);
  return connection;
}

Error Workshop::not_recovered() const {
  std::string tail = log_tail();
  if (tail.find("No space left on device") != std::string::npos) {
    return Error(sqlstate::kDiskFull,
                 fmt::format("not enough free space for the workshop instance in \"{}\"",
                             options_.directory))
        .detail(std::move(tail));
  }
  return Error(sqlstate::kSystemError, "the workshop instance could not recover the backup")
      .detail(std::move(tail));
}

std::string Workshop::log_tail() const {
  const auto bytes =
      io::read_whole(options_.files, options_.directory + "/postgresql.log", 1ULL << 30);
  if (!bytes) return {};
  const std::string_view text = as_text(*bytes);
  return std::string(text.substr(text.size() - std::min<std::size_t>(text.size(), kLogTailBytes)));
}

void remove_workshop_directory(const std::string& directory, io::FileSystem& files) {
  end_server(directory + "/data");
  io::remove_tree(files, directory);
}

void remove_workshops(const std::string& root, io::FileSystem& files, const Stop& stop) {
  const UniqueFd fd(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return;
  for (const auto& entry : io::read_directory(fd.get(), root)) {
    stop.check();
    const std::string directory = root + "/" + entry.name;
    log::info("removing workshop \"{}\" of an earlier process", directory);
    remove_workshop_directory(directory, files);
  }
}

}  // namespace holdfast::restore
