#include "daemon/past_clusters.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "restore/checks.h"
#include "restore/recovery_target.h"
#include "restore/workshop.h"

namespace holdfast::daemon {

namespace {

class WorkshopCluster final : public backup::PastCluster {
 public:
  WorkshopCluster(const backup::PastClusterRequest& request, std::string directory,
                  const std::function<std::vector<std::filesystem::path>(const Stop&)>& programs,
                  const Stop& stop)
      : chain_(restore::read_cluster_chain(request.store, request.layer, stop)) {
    if (request.target) {
      restore::set_target(*request.target, spec_);
      restore::add_wal_up_to(spec_.target(), request.store, chain_.back(), stop);
    }
    const auto pg_bin = restore::find_server_programs(programs(stop), chain_.back(), stop);
    restore::check_objects(request.store, chain_,
                           request.target ? restore::WalBehind::Yes : restore::WalBehind::No,
                           request.workers, stop);
    workshop_.emplace(
        restore::WorkshopOptions{.directory = std::move(directory),
                                 .pg_bin = pg_bin,
                                 .chain = chain_,
                                 .target = spec_.has_target() ? &spec_.target() : nullptr,
                                 .store = request.store,
                                 .files = io::FileSystem::real(),
                                 .workers = request.workers});
    workshop_->recover_and_stop(request.report, stop);
    for (const auto& made : workshop_->made_tablespaces()) {
      auto& known = *chain_.back().mutable_tablespaces();
      const auto same = [&](const auto& space) { return space.oid() == made.oid(); };
      if (std::ranges::none_of(known, same)) *known.Add() = made;
    }
  }

  const collection::proto::Manifest& origin() const override { return chain_.back(); }
  std::filesystem::path data_directory() const override { return workshop_->data_directory(); }
  std::filesystem::path outside_directory() const override {
    return workshop_->outside_directory();
  }

  postgres::ConnectOptions start(const collection::proto::Manifest& layer,
                                 const Stop& stop) override {
    return workshop_->connect(
        workshop_->promote(layer, restore::databases_to_try(chain_.back()), stop));
  }

 private:
  std::vector<collection::proto::Manifest> chain_;
  restore::proto::RestoreJobSpec spec_;  // for its target
  std::optional<restore::Workshop> workshop_;
};

}  // namespace

std::unique_ptr<backup::PastCluster> WorkshopClusters::recover(
    const backup::PastClusterRequest& request, const Stop& stop) {
  return std::make_unique<WorkshopCluster>(request, directory_of(request.job), programs_, stop);
}

void WorkshopClusters::remove(jobs::JobId job) {
  restore::remove_workshop_directory(directory_of(job), io::FileSystem::real());
}

std::string WorkshopClusters::directory_of(jobs::JobId job) const {
  return fmt::format("{}/{}", root_, job);
}

}  // namespace holdfast::daemon
