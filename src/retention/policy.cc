#include "retention/policy.h"

#include <fmt/format.h>

#include <cstddef>
#include <map>
#include <set>

namespace holdfast::retention {

namespace {

using collection::SurveyedChain;

Verdict keep(std::string reason) { return {.goes = false, .reason = std::move(reason)}; }

/// What the clauses say; `newer` is how many newer chains can be restored.
Verdict apply(const SurveyedChain& chain, const Rule& rule, std::size_t newer) {
  std::string reason;
  if (rule.older_than) {
    const std::string moment = format_timestamptz(*rule.older_than);
    if (chain.end() >= *rule.older_than) return keep(fmt::format("not older than {}", moment));
    reason = fmt::format("older than {}", moment);
  }
  if (rule.keep_fulls) {
    if (newer < *rule.keep_fulls) {
      return keep(fmt::format("one of the {} newest fulls", *rule.keep_fulls));
    }
    reason += fmt::format("{}not one of the {} newest fulls", reason.empty() ? "" : ", ",
                          *rule.keep_fulls);
  }
  return {.goes = true, .reason = std::move(reason)};
}

/// The verdicts of the chains at `positions`, which are of one scope, oldest first.
void judge_scope(const std::vector<SurveyedChain>& chains,
                 const std::vector<std::size_t>& positions, const Rule& rule, const InUse& in_use,
                 std::vector<Verdict>& verdicts) {
  std::size_t newer = 0;
  bool one_stays = false;
  for (auto i = positions.rbegin(); i != positions.rend(); ++i) {
    const SurveyedChain& chain = chains[*i];
    const auto used = in_use.find(chain.full);
    if (!chain.unreadable.empty()) {
      verdicts[*i] = keep(fmt::format("cannot be read: {}", chain.unreadable));
    } else if (used != in_use.end()) {
      verdicts[*i] = keep(used->second);
    } else {
      verdicts[*i] = apply(chain, rule, newer);
    }
    if (!chain.restorable()) continue;
    ++newer;
    if (!verdicts[*i].goes) one_stays = true;
  }
  if (one_stays) return;
  for (auto i = positions.rbegin(); i != positions.rend(); ++i) {
    if (!chains[*i].restorable()) continue;
    verdicts[*i] = keep(kLastRestorable);
    return;
  }
  // Perhaps somebody can mend one of them.
  for (const std::size_t i : positions) {
    if (verdicts[i].goes) verdicts[i] = keep("no backup here is whole");
  }
}

}  // namespace

std::string scope_of(const SurveyedChain& chain) {
  std::set<std::string> parts;
  if (!chain.layers.empty()) {
    for (const auto& database : chain.layers.front().scope_databases()) {
      if (database.tables().empty()) parts.insert(fmt::format("{}", database.oid()));
      for (const auto& table : database.tables()) {
        parts.insert(fmt::format("{}.{}", database.oid(), table.oid()));
      }
    }
  }
  return fmt::format("{}", fmt::join(parts, ","));
}

std::vector<Verdict> judge(const std::vector<SurveyedChain>& chains, const Rule& rule,
                           const InUse& in_use) {
  std::vector<Verdict> verdicts(chains.size());
  std::map<std::string, std::vector<std::size_t>> scopes;
  for (std::size_t i = 0; i < chains.size(); ++i) scopes[scope_of(chains[i])].push_back(i);
  for (const auto& [scope, positions] : scopes) {
    judge_scope(chains, positions, rule, in_use, verdicts);
  }
  return verdicts;
}

}  // namespace holdfast::retention
