#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "collection/survey.h"
#include "jobs/job.h"
#include "retention/in_use.h"
#include "retention/policy.h"
#include "retention/retention_job.h"
#include "retention_job.pb.h"
#include "storage/object_store.h"

namespace holdfast::retention {

proto::RetentionJobSpec parse_spec(ByteView bytes);
proto::RetentionCheckpoint parse_checkpoint(const std::optional<Bytes>& bytes);
/// The store of the job's collection, without keys.
std::unique_ptr<storage::ObjectStore> open_collection(backup::StoreOpener& stores,
                                                      const proto::RetentionJobSpec& spec);
/// `store` with the keys that the specification has.
std::unique_ptr<storage::ObjectStore> with_all_keys(std::unique_ptr<storage::ObjectStore> store,
                                                    const proto::RetentionJobSpec& spec);
Rule rule_of(const proto::RetentionJobSpec& spec);

proto::RetentionRow row_of(const collection::SurveyedChain& chain, const char* action,
                           std::string reason);

/// Why what an unfinished backup left may not be removed; absent when it may.
std::optional<std::string> reason_to_leave(const collection::UnfinishedLayer& layer,
                                           const Workers& workers);
proto::RetentionRow row_of(const collection::UnfinishedLayer& layer, const char* action,
                           std::string reason);
/// Why it may.
std::string reason_to_sweep(const collection::UnfinishedLayer& layer);

/// One attempt of a RetentionJob: its steps, in the order in which they are taken.
class RetentionRun {
 public:
  RetentionRun(const RetentionEnvironment& environment, jobs::JobContext& job);

  void take_lock();
  /// The chain that an earlier process had begun to delete, if its full is gone already.
  void finish_interrupted();
  void decide();
  void delete_chains();
  /// Removes what unfinished backups have left behind.
  void sweep();
  void trim_wal();
  void release_lock();

 private:
  void delete_chain(const collection::SurveyedChain& chain, const std::string& reason);
  std::optional<std::string> obstacle(const collection::SurveyedChain& chain);
  bool another_restorable(const collection::SurveyedChain& chain);
  std::optional<std::string> newest_other(const std::string& full);
  void move_latest(const std::string& full);
  void remove_rest(const std::string& full);
  std::uint64_t remove_ties(const std::string& full);
  void give_back(const std::string& full, const char* action, std::string reason);
  void withdraw_old_marks(const collection::SurveyedChain& chain);
  std::optional<std::string> reason_elsewhere(const std::string& full);
  void sweep_layer(const collection::UnfinishedLayer& layer);

  /// Replaces what was said about this subdirectory.
  void set_row(proto::RetentionRow row);
  void end_chain(proto::RetentionRow row);
  void save();
  void report(std::string_view phase);

  const RetentionEnvironment& environment_;
  jobs::JobContext& job_;
  const Stop& stop_;
  const proto::RetentionJobSpec spec_;
  const std::unique_ptr<storage::ObjectStore> store_;
  const Workers workers_;
  collection::Surveyor surveyor_;
  proto::RetentionCheckpoint checkpoint_;

  std::vector<collection::SurveyedChain> chains_;
  std::vector<Verdict> verdicts_;  // one for each of chains_
  std::set<std::string> gone_;     // fulls whose deletion was begun in this attempt
  std::uint64_t bytes_total_ = 0;
  std::uint64_t bytes_done_ = 0;
};

}  // namespace holdfast::retention
