#include "retention/policy.h"

#include <fmt/format.h>

#include <algorithm>

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

}  // namespace

std::vector<Verdict> judge(const std::vector<SurveyedChain>& chains, const Rule& rule,
                           const InUse& in_use) {
  std::vector<Verdict> verdicts(chains.size());
  std::size_t newer = 0;
  bool one_stays = false;
  for (std::size_t i = chains.size(); i-- > 0;) {
    const SurveyedChain& chain = chains[i];
    const auto used = in_use.find(chain.full);
    if (!chain.unreadable.empty()) {
      verdicts[i] = keep(fmt::format("cannot be read: {}", chain.unreadable));
    } else if (used != in_use.end()) {
      verdicts[i] = keep(used->second);
    } else {
      verdicts[i] = apply(chain, rule, newer);
    }
    if (!chain.restorable()) continue;
    ++newer;
    if (!verdicts[i].goes) one_stays = true;
  }
  if (one_stays) return verdicts;
  for (std::size_t i = chains.size(); i-- > 0;) {
    if (!chains[i].restorable()) continue;
    verdicts[i] = keep(kLastRestorable);
    return verdicts;
  }
  // Perhaps somebody can mend one of them.
  for (Verdict& verdict : verdicts) {
    if (verdict.goes) verdict = keep("no backup here is whole");
  }
  return verdicts;
}

}  // namespace holdfast::retention
