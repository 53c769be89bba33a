#include "retention/policy.h"

#include <fmt/format.h>

#include <algorithm>
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

/// How many newer chains that can be restored hold all that this one does. A full of an earlier
/// moment that was made of this chain is no newer state, whatever its name.
std::size_t count_newer(const std::vector<SurveyedChain>& chains, std::size_t chain) {
  std::size_t count = 0;
  for (std::size_t i = chain + 1; i < chains.size(); ++i) {
    if (chains[i].restorable() && chains[i].end() >= chains[chain].end() &&
        covers(chains[i], chains[chain])) {
      ++count;
    }
  }
  return count;
}

/// Whether one of those that stay, of whatever age, holds all that this one does.
bool is_covered(const std::vector<SurveyedChain>& chains, std::size_t chain,
                const std::vector<Verdict>& verdicts) {
  for (std::size_t i = 0; i < chains.size(); ++i) {
    if (verdicts[i].goes || !chains[i].restorable()) continue;
    if (covers(chains[i], chains[chain])) return true;
  }
  return false;
}

using Parts = std::map<std::uint32_t, std::set<std::uint32_t>>;

/// Databases with their tables; without: whole. None at all: the cluster.
Parts parts_of(const SurveyedChain& chain) {
  Parts parts;
  if (chain.layers.empty()) return parts;
  for (const auto& database : chain.layers.front().scope_databases()) {
    auto& tables = parts[database.oid()];
    for (const auto& table : database.tables()) tables.insert(table.oid());
  }
  return parts;
}

std::uint64_t server_of(const SurveyedChain& chain) {
  return chain.layers.empty() ? 0 : chain.layers.front().instance().system_identifier();
}

}  // namespace

bool of_cluster(const SurveyedChain& chain) { return parts_of(chain).empty(); }

bool covers(const SurveyedChain& one, const SurveyedChain& other) {
  if (server_of(one) != server_of(other)) return false;
  const Parts has = parts_of(one);
  const Parts wanted = parts_of(other);
  if (has.empty() != wanted.empty()) return false;
  return std::ranges::all_of(wanted, [&](const auto& database) {
    const auto& [oid, tables] = database;
    const auto found = has.find(oid);
    if (found == has.end()) return false;
    return found->second.empty() ||
           (!tables.empty() && std::ranges::includes(found->second, tables));
  });
}

std::vector<Verdict> judge(const std::vector<SurveyedChain>& chains, const Rule& rule,
                           const InUse& in_use) {
  std::vector<Verdict> verdicts(chains.size());
  for (std::size_t i = 0; i < chains.size(); ++i) {
    const SurveyedChain& chain = chains[i];
    const auto used = in_use.find(chain.full);
    if (!chain.unreadable.empty()) {
      verdicts[i] = keep(fmt::format("cannot be read: {}", chain.unreadable));
    } else if (used != in_use.end()) {
      verdicts[i] = keep(used->second);
    } else {
      verdicts[i] = apply(chain, rule, count_newer(chains, i));
    }
  }
  // From the newest on: what stays as the last one covers older ones.
  for (std::size_t i = chains.size(); i-- > 0;) {
    if (!verdicts[i].goes || !chains[i].restorable()) continue;
    if (!is_covered(chains, i, verdicts)) verdicts[i] = keep(kLastRestorable);
  }
  for (std::size_t i = 0; i < chains.size(); ++i) {
    if (!verdicts[i].goes || chains[i].restorable()) continue;
    // Perhaps somebody can mend it.
    if (!is_covered(chains, i, verdicts)) verdicts[i] = keep("no backup here is whole");
  }
  return verdicts;
}

}  // namespace holdfast::retention
