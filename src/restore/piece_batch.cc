#include "restore/piece_batch.h"

#include <algorithm>
#include <utility>

namespace holdfast::restore {

void PieceBatch::clear() {
  added_.clear();
  places_.clear();
  used_ = 0;
}

bool PieceBatch::has_room(std::span<const WantedFrame> pieces) const {
  std::size_t bytes = used_;
  for (const WantedFrame& piece : pieces) bytes += piece.entry.stored_bytes;
  return places_.empty() || bytes <= kBytes;
}

void PieceBatch::add(const WantedFrame& piece) {
  if (used_ + piece.entry.stored_bytes > kBytes) {
    places_.emplace(&piece, std::nullopt);
    return;
  }
  places_.emplace(&piece, used_);
  added_.push_back(&piece);
  used_ += piece.entry.stored_bytes;
}

void PieceBatch::fetch(const Stop& stop) {
  std::ranges::stable_sort(
      added_, {}, [](const WantedFrame* one) { return std::pair(one->pack, one->entry.offset); });
  if (!memory_) memory_.reset(new std::byte[kBytes]);  // not touched before it is filled
  for (std::size_t first = 0, last = 0; first < added_.size(); first = last) {
    while (last < added_.size() && added_[last]->pack == added_[first]->pack) ++last;
    reader_.fetch(
        plan_.key(added_[first]->pack), std::span(added_).subspan(first, last - first),
        [&](const WantedFrame& piece, ByteView stored) {
          std::ranges::copy(stored, memory_.get() + *places_.at(&piece));
        },
        stop);
  }
}

std::optional<ByteView> PieceBatch::stored(const WantedFrame& piece, const Stop& stop) {
  const auto found = places_.find(&piece);
  if (found == places_.end()) return std::nullopt;
  if (found->second) return ByteView(memory_.get() + *found->second, piece.entry.stored_bytes);
  single_.resize(piece.entry.stored_bytes);
  reader_.fetch_one(plan_.key(piece.pack), piece, single_, stop);
  return single_;
}

}  // namespace holdfast::restore
