#include "restore/postgres_instance.h"

#include "base/error.h"
#include "restore/user_objects.h"

namespace holdfast::restore {
PostgresInstance::PostgresInstance(Options options)
    : options_(std::move(options)), control_(options_.instance) {}

std::string PostgresInstance::data_directory() const {
  return options_.instance.data_directory.string();
}

int PostgresInstance::binaries_major_version() { return options_.instance.major; }

bool PostgresInstance::running() { return control_.running(); }

void PostgresInstance::stop(const Stop& stop) { control_.stop(options_.stop_timeout, stop); }

void PostgresInstance::start(const Stop& stop) { control_.start(options_.start_timeout, stop); }

std::optional<std::string> PostgresInstance::wait_ready(std::chrono::milliseconds timeout,
                                                        const Stop& stop) {
  return control_.wait_ready(timeout, stop);
}

std::vector<std::string> PostgresInstance::user_objects(const Stop& stop) {
  return restore::user_objects(connect(), stop);
}

postgres::ConnectOptions PostgresInstance::connect() const {
  postgres::ConnectOptions options = options_.connect;
  if (options.conninfo.empty()) {
    const auto postmaster = postgres::find_postmaster(options_.instance.data_directory);
    if (!postmaster) throw Error(sqlstate::kCannotConnectNow, "PostgreSQL is not running");
    options.conninfo = postgres::conninfo_for(*postmaster);
  }
  return options;
}

}  // namespace holdfast::restore
