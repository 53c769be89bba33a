#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "postgres/connection.h"

namespace holdfast::postgres::testing {

/// Options of a private server for tests.
struct PrivateInstanceOptions {
  bool checksums = true;
  std::vector<std::string> initdb_arguments{};
  /// Lines appended to postgresql.conf.
  std::vector<std::string> settings{};
  /// Empty: HOLDFAST_TEST_PG_BIN, else /usr/lib/postgresql/15/bin.
  std::filesystem::path pg_bin{};
  /// Start it right away.
  bool start = true;
};

/// A PostgreSQL of its own in a new directory below /tmp, reachable over its socket only, with
/// fsync off; stopped and removed at the end. As root it runs as the user postgres.
class PrivateInstance {
 public:
  /// Throws Error with the program's output when initdb or the start fails.
  explicit PrivateInstance(PrivateInstanceOptions options = {});
  /// A data directory that exists already (a restored one); it is not removed at the end.
  static PrivateInstance adopt(std::filesystem::path data_directory,
                               PrivateInstanceOptions options = {});
  ~PrivateInstance();
  PrivateInstance(PrivateInstance&&) noexcept;
  PrivateInstance& operator=(PrivateInstance&&) = delete;

  const std::filesystem::path& data_directory() const { return data_directory_; }
  const std::filesystem::path& socket_directory() const { return root_; }
  const std::filesystem::path& pg_bin() const { return options_.pg_bin; }
  int port() const { return 5432; }
  /// "host=/tmp/… port=5432 user=postgres dbname=postgres"
  std::string conninfo(const std::string& database = "postgres") const;

  Connection connect(const std::string& database = "postgres") const;
  /// Runs statements of the simple protocol.
  QueryResult execute(const std::string& sql, const std::string& database = "postgres") const;

  void start();
  /// "fast" or "immediate".
  void stop(const std::string& mode = "fast");
  bool running() const;

  /// Runs a program as the server's user; its output. Throws Error when it fails.
  std::string run(const std::vector<std::string>& arguments) const;
  /// A directory that the server's user may write to, removed with the instance.
  const std::filesystem::path& scratch() const { return root_; }
  /// Gives a path (with everything below) to the server's user; nothing unless root.
  void give(const std::filesystem::path& path) const;

 private:
  struct Adopt {};
  PrivateInstance(Adopt, std::filesystem::path data_directory, PrivateInstanceOptions options);
  void make_root();

  PrivateInstanceOptions options_;
  std::filesystem::path root_;
  std::filesystem::path data_directory_;
};

}  // namespace holdfast::postgres::testing
