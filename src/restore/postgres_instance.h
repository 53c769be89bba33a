#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "postgres/connection.h"
#include "postgres/instance.h"
#include "restore/restore_job.h"

namespace holdfast::restore {

/// The daemon's instance over postgres::InstanceControl.
class PostgresInstance final : public TargetInstance {
 public:
  struct Options {
    postgres::InstanceOptions instance;
    /// How to reach the server. Empty conninfo: over the socket that postmaster.pid names.
    postgres::ConnectOptions connect;
    std::chrono::milliseconds stop_timeout = std::chrono::minutes(10);
    std::chrono::milliseconds start_timeout = std::chrono::minutes(10);
  };
  /// Looks at the instance now, so that it can be started later without its data directory.
  explicit PostgresInstance(Options options);

  std::string data_directory() const override;
  int binaries_major_version() override;
  bool running() override;
  void stop(const Stop& stop) override;
  void start(const Stop& stop) override;
  std::optional<std::string> wait_ready(std::chrono::milliseconds timeout,
                                        const Stop& stop) override;
  std::vector<std::string> user_objects(const Stop& stop) override;

 private:
  postgres::ConnectOptions connect() const;

  Options options_;
  postgres::InstanceControl control_;
};

}  // namespace holdfast::restore
