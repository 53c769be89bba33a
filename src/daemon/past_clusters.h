#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backup/past_cluster.h"
#include "base/stop.h"

namespace holdfast::daemon {

/// Past clusters as workshops below `root`, each named after its job.
class WorkshopClusters final : public backup::PastClusters {
 public:
  /// `programs`: directories of PostgreSQL programs, as restores use them.
  WorkshopClusters(std::function<std::vector<std::filesystem::path>(const Stop&)> programs,
                   std::string root)
      : programs_(std::move(programs)), root_(std::move(root)) {}

  std::unique_ptr<backup::PastCluster> recover(const backup::PastClusterRequest& request,
                                               const Stop& stop) override;
  void remove(jobs::JobId job) override;

 private:
  std::string directory_of(jobs::JobId job) const;

  const std::function<std::vector<std::filesystem::path>(const Stop&)> programs_;
  const std::string root_;
};

}  // namespace holdfast::daemon
