#include "postgres/timeline_path.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

namespace holdfast::postgres {

TimelinePath::TimelinePath(TimelineId last, std::vector<TimelineSwitch> ancestors)
    : last_(last), ancestors_(std::move(ancestors)) {}

TimelineId TimelinePath::of_segment(std::uint64_t segment, std::uint64_t wal_segment_bytes) const {
  TimelineId timeline = last_;
  for (auto it = ancestors_.rbegin(); it != ancestors_.rend(); ++it) {
    // `timeline` began where this ancestor was left.
    if (segment_of(it->switch_point, wal_segment_bytes) <= segment) return timeline;
    timeline = it->timeline;
  }
  return timeline;
}

TimelineId TimelinePath::of_position(Lsn lsn) const {
  TimelineId timeline = last_;
  for (auto it = ancestors_.rbegin(); it != ancestors_.rend(); ++it) {
    if (it->switch_point <= lsn) return timeline;
    timeline = it->timeline;
  }
  return timeline;
}

Lsn TimelinePath::begin_of_last() const {
  return ancestors_.empty() ? Lsn{} : ancestors_.back().switch_point;
}

bool TimelinePath::contains(TimelineId timeline, Lsn lsn) const {
  Lsn begin;
  for (const TimelineSwitch& ancestor : ancestors_) {
    if (ancestor.timeline == timeline) return begin <= lsn && lsn <= ancestor.switch_point;
    begin = ancestor.switch_point;
  }
  return timeline == last_ && begin <= lsn;
}

Lsn TimelinePath::end_of(TimelineId timeline) const {
  const auto found =
      std::find_if(ancestors_.begin(), ancestors_.end(),
                   [&](const TimelineSwitch& ancestor) { return ancestor.timeline == timeline; });
  return found != ancestors_.end() ? found->switch_point : Lsn{};
}

WalInput wal_directory_input(std::string directory, TimelinePath path,
                             std::uint64_t wal_segment_bytes) {
  // Owned by the copies of the function. One input for each timeline, which keeps its file open.
  auto inputs = std::make_shared<std::map<TimelineId, WalInput>>();
  return [=](std::uint64_t segment, std::uint64_t offset, MutableByteView out) {
    const TimelineId timeline = path.of_segment(segment, wal_segment_bytes);
    auto input = inputs->find(timeline);
    if (input == inputs->end()) {
      inputs->clear();
      input = inputs->emplace(timeline, wal_directory_input(directory, timeline, wal_segment_bytes))
                  .first;
    }
    return input->second(segment, offset, out);
  };
}

}  // namespace holdfast::postgres
