#pragma once

#include <cstdint>
#include <vector>

#include "base/mutex.h"
#include "collection/pack.h"
#include "manifest.pb.h"

namespace holdfast::backup {

/// The finished packs of the backup: each is on storage, whole. Thread-safe.
class PackLedger {
 public:
  void add(const collection::PackSummary& summary);
  /// Takes over a pack of an earlier attempt; `superseded` are positions in its index that count no
  /// more.
  void adopt(collection::proto::Pack pack, const std::vector<std::uint32_t>& superseded);
  /// Adds to the positions of a pack that count no more.
  void supersede(std::uint32_t number, const std::vector<std::uint32_t>& positions);

  std::size_t size() const;
  /// In order of number.
  std::vector<collection::proto::Pack> packs() const;
  /// Forgets the packs of which no frame counts any more.
  void drop_useless();

 private:
  mutable Mutex mutex_;
  std::vector<collection::proto::Pack> packs_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::backup
