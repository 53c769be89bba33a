#include "restore/frame_reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace holdfast::restore {
namespace {

/// Frames this close to each other are fetched by one request.
constexpr std::uint64_t kMaxGapBytes = 64U << 10;

}  // namespace

void FrameReader::read(const storage::ObjectKey& key, std::vector<WantedFrame>& wanted,
                       const Take& take, const Stop& stop) {
  std::ranges::stable_sort(wanted, {}, [](const WantedFrame& one) { return one.entry.offset; });
  for (std::size_t first = 0; first < wanted.size();) {
    const std::uint64_t start = wanted[first].entry.offset;
    std::uint64_t end = start + wanted[first].entry.stored_bytes;
    std::size_t last = first + 1;
    for (; last < wanted.size(); ++last) {
      const collection::FrameEntry& next = wanted[last].entry;
      if (next.offset > end + kMaxGapBytes) break;
      const std::uint64_t next_end = std::max(end, next.offset + next.stored_bytes);
      if (next_end - start > kMaxRunBytes) break;
      end = next_end;
    }
    const MutableByteView run(run_.data(), static_cast<std::size_t>(end - start));
    if (!run.empty() && !store_.get_into(key, start, run, stop)) {
      throw Error(sqlstate::kUndefinedFile, fmt::format("object \"{}\" does not exist", key));
    }
    for (; first < last; ++first) {
      stop.check();
      const collection::FrameEntry& entry = wanted[first].entry;
      throttle_.take(entry.plain_bytes, stop);
      const ByteView stored =
          run.subspan(entry.stored_bytes == 0 ? 0 : entry.offset - start, entry.stored_bytes);
      const MutableByteView plain = plain_.view().first(entry.plain_bytes);
      decoder_.decode(entry, stored, plain, key);
      take(wanted[first], plain);
    }
  }
}

}  // namespace holdfast::restore
