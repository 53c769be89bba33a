#include "backup/wal_archive_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "backup/wal_archive_end.h"
#include "backup/wal_archive_stay.h"
#include "base/error.h"
#include "base/log.h"
#include "postgres/connection.h"
#include "postgres/wal_receiver.h"
#include "wal_archive_job.pb.h"

namespace holdfast::backup {

namespace {

constexpr std::chrono::milliseconds kFirstBackoff{500};
constexpr std::chrono::milliseconds kLongestBackoff{10'000};

proto::WalArchiveJobSpec archive_specification(const jobs::JobContext& job) {
  proto::WalArchiveJobSpec spec;
  const ByteView bytes = job.specification();
  if (!spec.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    throw Error(sqlstate::kInternalError, "the specification of the WAL archive cannot be read");
  }
  return spec;
}

std::string setting_of(const std::string& slot) { return "wal_archive_mode." + slot; }

}  // namespace

WalArchiveMode archive_mode(state::Database& database, const std::string& slot,
                            WalArchiveMode first) {
  return database.setting(setting_of(slot)) == "full" ? WalArchiveMode::Full : first;
}

void raise_archive_mode(state::Database& database, const std::string& slot) {
  database.set_setting(setting_of(slot), "full");
}

WalArchiveJob::WalArchiveJob(WalArchiveEnvironment environment)
    : environment_(std::move(environment)) {}

void WalArchiveJob::resume(jobs::JobContext& job) {
  const proto::WalArchiveJobSpec spec = archive_specification(job);
  WalArchiveMemory memory;
  std::chrono::milliseconds backoff = kFirstBackoff;
  for (;;) {
    const auto began = std::chrono::steady_clock::now();
    try {
      WalArchiveStay(environment_, spec, memory, job).work();
      continue;
    } catch (const Error& error) {
      job.stop().check();
      if (ends_archive(error)) {
        environment_.board->remove(job.id());
        throw;
      }
      log::warning("the WAL archive waits: {}", error.message());
      job.report({.phase = fmt::format("waiting, trying again: {}", error.message())});
      auto state = environment_.board->find(job.id()).value_or(WalArchiveState{});
      state.waiting_for = error.message();
      environment_.board->set(job.id(), state);
    }
    if (std::chrono::steady_clock::now() - began > kLongestBackoff) backoff = kFirstBackoff;
    job.stop().sleep(backoff);
    backoff = std::min(backoff * 2, kLongestBackoff);
  }
}

void WalArchiveJob::revert(jobs::JobContext& job) {
  const proto::WalArchiveJobSpec spec = archive_specification(job);
  environment_.board->remove(job.id());
  try {
    auto connection = postgres::Connection::open({.conninfo = environment_.conninfo()}, job.stop());
    postgres::drop_physical_slot(connection, spec.slot(), job.stop());
  } catch (Error& error) {
    error.at(fmt::format("could not drop replication slot \"{}\"", spec.slot()));
    error.hint("Drop it with pg_drop_replication_slot(), or it keeps WAL for good.");
    error.retry(Retry::Safe);
    throw;
  }
}

}  // namespace holdfast::backup
