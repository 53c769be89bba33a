#include "collection/wal_archive_input.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "base/bytes.h"
#include "collection/wal_archive.h"
#include "collection/wal_recovery.h"

namespace holdfast::collection {

namespace {

class Fetcher {
 public:
  Fetcher(storage::ObjectStore& store, ArchivedWal wal, const Stop& stop)
      : store_(store), wal_(std::move(wal)), stop_(stop) {}

  bool read(std::uint64_t segment, std::uint64_t offset, MutableByteView out) {
    if (present_ != segment && !fetch(segment)) return false;
    // Pages are read whole; what is not written yet of the last one is zeros.
    if (offset >= held_) return false;
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    return true;
  }

 private:
  bool fetch(std::uint64_t segment) {
    present_.reset();
    bytes_.assign(wal_.wal_segment_bytes, std::byte{0});
    const WalSegmentId id{.system_identifier = wal_.system_identifier,
                          .timeline = wal_.path.of_segment(segment, wal_.wal_segment_bytes),
                          .segment = segment,
                          .segment_bytes = wal_.wal_segment_bytes};
    const WalWriter take = [this](std::uint64_t at, ByteView piece) {
      std::copy(piece.begin(), piece.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(at));
    };
    const auto got = get_wal_or_tail(store_, id, take, stop_);
    if (!got) return false;
    held_ = *got;
    present_ = segment;
    return true;
  }

  storage::ObjectStore& store_;
  const ArchivedWal wal_;
  const Stop& stop_;
  std::optional<std::uint64_t> present_;
  Bytes bytes_;
  std::uint64_t held_ = 0;  // of the segment, from its start
};

}  // namespace

postgres::WalInput archive_input(storage::ObjectStore& store, ArchivedWal wal, const Stop& stop) {
  auto fetcher = std::make_shared<Fetcher>(store, std::move(wal), stop);
  return [fetcher](std::uint64_t segment, std::uint64_t offset, MutableByteView out) {
    return fetcher->read(segment, offset, out);
  };
}

}  // namespace holdfast::collection
