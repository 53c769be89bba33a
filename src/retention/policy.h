#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "collection/survey.h"

namespace holdfast::retention {

/// Which chains may go: those that every clause lets go. At least one is there.
struct Rule {
  /// Chains whose newest layer ends before this.
  std::optional<Time> older_than = std::nullopt;
  /// Chains than which at least this many newer ones that can be restored hold as much. Newer is a
  /// chain whose full comes later and whose newest layer does not end earlier.
  std::optional<std::uint32_t> keep_fulls = std::nullopt;
};

struct Verdict {
  bool goes = false;
  std::string reason;  ///< for people, of either
};

/// Why a chain must stay whatever the rule says, by its full's subdirectory.
using InUse = std::map<std::string, std::string, std::less<>>;

/// Whether `one` holds all that `other` does, of the same server as of another moment: the cluster;
/// at least the same databases and tables, where a whole database has all of its tables. The
/// cluster's do not stand for those of a part, which may be others', nor these for the cluster's.
bool covers(const collection::SurveyedChain& one, const collection::SurveyedChain& other);

/// Whether it is one of the whole cluster.
bool of_cluster(const collection::SurveyedChain& chain);

/// A verdict for each of `chains`, which are in the order of their age, oldest first. What one of
/// them holds and can be restored stays in at least one that can be restored.
std::vector<Verdict> judge(const std::vector<collection::SurveyedChain>& chains, const Rule& rule,
                           const InUse& in_use);

inline constexpr const char* kLastRestorable = "the last backup that can be restored";

}  // namespace holdfast::retention
