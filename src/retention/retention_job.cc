#include "retention/retention_job.h"

#include "base/log.h"
#include "collection/collection.h"
#include "collection/deletion_marks.h"
#include "retention/retention_run.h"

namespace holdfast::retention {

std::vector<proto::RetentionRow> dry_run(const RetentionEnvironment& environment,
                                         storage::ObjectStore& store,
                                         const proto::RetentionJobSpec& spec, const Stop& stop) {
  const Workers workers(*environment.registry, environment.young);
  const collection::Survey survey = collection::Surveyor(store).survey(stop);
  const auto verdicts = judge(survey.chains, rule_of(spec),
                              chains_in_use(*environment.registry, workers, survey.chains));
  std::vector<proto::RetentionRow> rows;
  for (std::size_t i = 0; i < survey.chains.size(); ++i) {
    rows.push_back(
        row_of(survey.chains[i], verdicts[i].goes ? kWouldBeDeleted : kKept, verdicts[i].reason));
  }
  for (const collection::UnfinishedLayer& layer : survey.unfinished) {
    const auto reason = reason_to_leave(layer, workers);
    rows.push_back(
        row_of(layer, reason ? kKept : kWouldBeDeleted, reason ? *reason : reason_to_sweep(layer)));
  }
  return rows;
}

void RetentionJob::resume(jobs::JobContext& job) {
  RetentionRun run(environment_, job);
  run.take_lock();
  job.pause_point("retention.after_lock");
  run.finish_interrupted();
  run.decide();
  job.pause_point("retention.after_decision");
  run.delete_chains();
  run.sweep();
  job.pause_point("retention.after_sweep");
  run.trim_wal();
  job.pause_point("retention.after_trim");
  run.release_lock();
}

void RetentionJob::revert(jobs::JobContext& job) {
  const proto::RetentionJobSpec spec = parse_spec(job.specification());
  const proto::RetentionCheckpoint checkpoint = parse_checkpoint(job.checkpoint());
  const auto store = open_collection(*environment_.stores, spec);
  const Stop& stop = job.stop();
  const std::string& full = checkpoint.deleting();
  if (!full.empty() && store->stat(collection::manifest_key(full), stop)) {
    collection::withdraw_deletion(*store, full, job.id(), stop);
  }
  // Otherwise the mark tells the next job what the rest is.
  collection::release_retention_lock(*store, job.id(), stop);
}

}  // namespace holdfast::retention
