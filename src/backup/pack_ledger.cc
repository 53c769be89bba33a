#include "backup/pack_ledger.h"

#include <algorithm>
#include <utility>

#include "collection/collection.h"

namespace holdfast::backup {

namespace {

void add_superseded(collection::proto::Pack& pack, const std::vector<std::uint32_t>& positions) {
  if (positions.empty()) return;
  auto& all = *pack.mutable_superseded();
  all.Add(positions.begin(), positions.end());
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
}

}  // namespace

void PackLedger::add(const collection::PackSummary& summary) {
  collection::proto::Pack pack;
  collection::store_summary(summary, pack);
  MutexLock lock(mutex_);
  packs_.push_back(std::move(pack));
}

void PackLedger::adopt(collection::proto::Pack pack, const std::vector<std::uint32_t>& superseded) {
  add_superseded(pack, superseded);
  MutexLock lock(mutex_);
  packs_.push_back(std::move(pack));
}

void PackLedger::supersede(std::uint32_t number, const std::vector<std::uint32_t>& positions) {
  MutexLock lock(mutex_);
  for (auto& pack : packs_) {
    if (pack.number() == number) add_superseded(pack, positions);
  }
}

std::size_t PackLedger::size() const {
  MutexLock lock(mutex_);
  return packs_.size();
}

std::vector<collection::proto::Pack> PackLedger::packs() const {
  std::vector<collection::proto::Pack> copy;
  {
    MutexLock lock(mutex_);
    copy = packs_;
  }
  std::ranges::sort(copy, {}, [](const auto& pack) { return pack.number(); });
  return copy;
}

void PackLedger::drop_useless() {
  MutexLock lock(mutex_);
  std::erase_if(packs_, [](const auto& pack) {
    return static_cast<std::uint32_t>(pack.superseded_size()) == pack.frames();
  });
}

}  // namespace holdfast::backup
