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
  /// All but this many of the newest that can be restored, of each scope.
  std::optional<std::uint32_t> keep_fulls = std::nullopt;
};

struct Verdict {
  bool goes = false;
  std::string reason;  ///< for people, of either
};

/// Why a chain must stay whatever the rule says, by its full's subdirectory.
using InUse = std::map<std::string, std::string, std::less<>>;

/// A verdict for each of `chains`, which are in the order of their age, oldest first. Of those that
/// can be restored at least one of each scope (the cluster; the same databases and tables) stays.
std::vector<Verdict> judge(const std::vector<collection::SurveyedChain>& chains, const Rule& rule,
                           const InUse& in_use);

/// What a chain is of: the cluster (empty), or these databases and tables. A backup of one table
/// must not count for one of the cluster.
std::string scope_of(const collection::SurveyedChain& chain);

inline constexpr const char* kLastRestorable = "the last backup that can be restored";

}  // namespace holdfast::retention
