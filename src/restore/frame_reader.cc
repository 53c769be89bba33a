#include "restore/frame_reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace holdfast::restore {
namespace {

/// Frames this close to each other are fetched by one request.
constexpr std::uint64_t kMaxGapBytes = 64U << 10;

}  // namespace

void FrameReader::get(const storage::ObjectKey& key, std::uint64_t offset, MutableByteView into,
                      const Stop& stop) {
  if (!into.empty() && !store_.get_into(key, offset, into, stop)) {
    throw Error(sqlstate::kUndefinedFile, fmt::format("object \"{}\" does not exist", key));
  }
}

void FrameReader::fetch(const storage::ObjectKey& key, std::span<const WantedFrame* const> wanted,
                        const Take& take, const Stop& stop) {
  for (std::size_t first = 0; first < wanted.size();) {
    const std::uint64_t start = wanted[first]->entry.offset;
    std::uint64_t end = start + wanted[first]->entry.stored_bytes;
    std::size_t last = first + 1;
    for (; last < wanted.size(); ++last) {
      const collection::FrameEntry& next = wanted[last]->entry;
      if (next.offset > end + kMaxGapBytes) break;
      const std::uint64_t next_end = std::max(end, next.offset + next.stored_bytes);
      if (next_end - start > run_.size()) break;
      end = next_end;
    }
    const MutableByteView run(run_.data(), static_cast<std::size_t>(end - start));
    get(key, start, run, stop);
    for (; first < last; ++first) {
      stop.check();
      const collection::FrameEntry& entry = wanted[first]->entry;
      take(*wanted[first],
           run.subspan(entry.stored_bytes == 0 ? 0 : entry.offset - start, entry.stored_bytes));
    }
  }
}

void FrameReader::fetch_one(const storage::ObjectKey& key, const WantedFrame& wanted,
                            MutableByteView into, const Stop& stop) {
  get(key, wanted.entry.offset, into, stop);
}

void FrameReader::unpack(const storage::ObjectKey& key, const WantedFrame& frame, ByteView stored,
                         MutableByteView plain, const Stop& stop) {
  throttle_.take(frame.entry.plain_bytes, stop);
  decoder_.decode(frame.entry, stored, plain, key);
}

}  // namespace holdfast::restore
