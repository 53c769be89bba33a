// The workshop that stops at a moment, for a backup of the cluster as it was then.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>

#include "base/error.h"
#include "base/log.h"
#include "collection/recovery_target.h"
#include "io/file.h"
#include "postgres/control_file.h"
#include "postgres/instance.h"
#include "restore/checks.h"
#include "restore/fill.h"
#include "restore/partial_layout.h"
#include "restore/recovery_files.h"
#include "restore/recovery_target.h"
#include "restore/replayed_tablespaces.h"
#include "restore/workshop.h"

namespace holdfast::restore {
namespace {

constexpr std::array<std::string_view, 4> kConfiguration = {
    "postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf"};
/// What the server says when it ends, in the language that the workshop sets.
/// Source: PostgreSQL src/backend/postmaster/postmaster.c, versions 13 to 18.
constexpr std::string_view kStoppedAtTarget = "shutdown at recovery target";
constexpr std::string_view kServerEnded = "database system is shut down";

constexpr std::chrono::seconds kStartUpTime{10};
constexpr std::uint64_t kConfigurationLimit = 16U << 20;

bool exists(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0;
}

}  // namespace

void Workshop::fill_whole(const Stop& stop) {
  const auto& manifest = options_.chain.back();
  whole_ = make_private_layout(manifest, data_, tablespaces_);
  check_space(*whole_, manifest);
  io::make_directories(options_.files, data_);
  for (const auto& space : whole_->tablespaces) io::make_directories(options_.files, space.build);
  const auto may_hold = create_files(*whole_, options_.files, options_.workers, stop);
  control_ = fill_files({.chain = options_.chain,
                         .layout = *whole_,
                         .may_hold_content = may_hold,
                         .store = options_.store,
                         .files = options_.files,
                         .workers = options_.workers,
                         .wal_end = options_.target != nullptr ? options_.target->end() : 0,
                         .progress = [](std::uint64_t) {},
                         .before_pack = [] {}},
                        stop);
  const std::string outside = fmt::format("{}/{}", data_, kExternalConfigDirectory);
  if (exists(outside)) std::filesystem::rename(outside, outside_directory());
}

/// The server runs with settings of our own; the backup's come back before anybody looks.
void Workshop::set_configuration_aside() {
  const std::string aside = options_.directory + "/configuration";
  io::make_directories(options_.files, aside);
  for (const auto name : kConfiguration) {
    const std::string path = fmt::format("{}/{}", data_, name);
    if (exists(path)) std::filesystem::rename(path, fmt::format("{}/{}", aside, name));
  }
}

void Workshop::put_configuration_back() {
  const std::string aside = options_.directory + "/configuration";
  for (const auto name : kConfiguration) {
    const std::string path = fmt::format("{}/{}", data_, name);
    const std::string kept = fmt::format("{}/{}", aside, name);
    io::remove_file(options_.files, path);
    if (exists(kept)) std::filesystem::rename(kept, path);
  }
}

void Workshop::configure_recovery(const collection::proto::Manifest& layer,
                                  const proto::RecoveryTarget* target, End end, const Stop& stop) {
  set_configuration_aside();
  // A tablespace that replay has dropped must not be linked again.
  Layout layout = *whole_;
  if (end == End::Ready) {
    std::erase_if(layout.tablespaces, [&](const TablespaceTarget& space) {
      return !exists(fmt::format("{}/pg_tblspc/{}", data_, space.oid));
    });
  }
  write_recovery_files(layer, target, layout,
                       target != nullptr ? target->timeline() : layer.stop().timeline(),
                       options_.store, options_.files, stop);
  if (end == End::Stopped) {
    const std::string path = data_ + "/postgresql.auto.conf";
    const auto now = io::read_whole(options_.files, path, kConfigurationLimit);
    const std::string text =
        std::string(as_text(now.value_or(Bytes()))) + "recovery_target_action = 'shutdown'\n";
    io::write_file_atomically(options_.files, path, as_bytes(text), 0600);
  }
  configure(layout, control_);
}

void Workshop::wait_stopped(const Stop& stop) {
  const auto started = std::chrono::steady_clock::now();
  for (bool seen = false;;) {
    stop.check();
    const bool running = postgres::find_postmaster(data_).has_value();
    seen = seen || running;
    // Between pg_ctl's return and the postmaster's first file there is a moment, and a short
    // recovery may be over before we look.
    if (!running && (seen || log_tail().find(kServerEnded) != std::string::npos ||
                     std::chrono::steady_clock::now() - started > kStartUpTime)) {
      break;
    }
    stop.sleep(kServerPollPause);
  }
  const auto control = postgres::read_control_file(data_);
  if (control.state == postgres::ClusterState::ShutDownInRecovery &&
      log_tail().find(kStoppedAtTarget) != std::string::npos) {
    return;
  }
  throw not_recovered();
}

void Workshop::recover_and_stop(const std::function<void(std::string)>& report, const Stop& stop) {
  close();
  const auto& manifest = options_.chain.back();
  report("laying out the layer before the moment");
  fill_whole(stop);
  report("checking WAL");
  const auto wal = check_wal(options_.target, manifest, *whole_, options_.store, stop);
  // Their locations are the live server's. With the path hidden, replay makes them in our own
  // pg_tblspc, where the backup's have links into the workshop.
  for (const auto& tablespace : wal.tablespaces) {
    set_path(tablespace, postgres::TablespacePath::Hidden, wal.files, options_.files);
    auto& made = made_tablespaces_.emplace_back();
    made.set_oid(tablespace.oid);
    made.set_location(tablespace.location);
  }
  find_superusers(stop);
  configure_recovery(manifest, options_.target, End::Stopped, stop);
  io::write_file_atomically(options_.files, fmt::format("{}/{}", data_, postgres::kControlFilePath),
                            control_, whole_->file_mode());
  report("recovering to the moment");
  start_server(stop);
  wait_stopped(stop);
  put_configuration_back();
  io::remove_file(options_.files, data_ + "/recovery.signal");
}

std::string Workshop::promote(const collection::proto::Manifest& layer,
                              const std::vector<std::string>& databases, const Stop& stop) {
  find_superusers(stop);
  proto::RestoreJobSpec spec;
  adopt_target(layer, spec);
  const proto::RecoveryTarget* target = spec.has_target() ? &spec.target() : nullptr;
  configure_recovery(layer, target, End::Ready, stop);
  start_server(stop);
  std::string database = wait_ready(databases, stop);
  proto::RecoveryTarget end;
  end.set_timeline(target != nullptr ? target->timeline() : layer.stop().timeline());
  end.set_end(layer.stop().position());
  require_recovered_to(end, data_);
  return database;
}

}  // namespace holdfast::restore
