#include "collection/recovery_target.h"

namespace holdfast::collection {

using postgres::Lsn;

std::optional<RecoveryTarget> target_of(const proto::Manifest& layer) {
  if (!layer.has_recovery_target()) return std::nullopt;
  const proto::RecoveryTarget& target = layer.recovery_target();
  return RecoveryTarget{
      .timeline = target.timeline(), .record = Lsn{target.record()}, .end = Lsn{target.end()}};
}

proto::RecoveryTarget to_proto(const RecoveryTarget& target) {
  proto::RecoveryTarget out;
  out.set_timeline(target.timeline);
  out.set_record(target.record.value);
  out.set_end(target.end.value);
  return out;
}

void extend_wal(proto::Manifest& layer, const postgres::TimelinePath& path, Lsn end) {
  const std::uint64_t bytes = layer.instance().wal_segment_bytes();
  const std::uint64_t first = segment_of(Lsn{layer.stop().position() - 1}, bytes);
  const std::uint64_t last = segment_of(Lsn{end.value - 1}, bytes);
  auto& wal = *layer.mutable_wal();
  // The file of a later timeline has what its ancestors wrote into the segment, too.
  while (!wal.empty() && wal.rbegin()->segment() >= first) wal.RemoveLast();
  for (std::uint64_t segment = first; segment <= last; ++segment) {
    auto& added = *wal.Add();
    added.set_timeline(path.of_segment(segment, bytes));
    added.set_segment(segment);
  }
}

}  // namespace holdfast::collection
