#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "postgres/testing/memory_wal.h"
#include "postgres/versions.h"
#include "postgres/wal_condenser.h"

using namespace holdfast;

namespace {

constexpr std::uint64_t kSegmentBytes = 1U << 20;

/// Whether the last record of the extent can be reached from its start.
bool readable(const postgres::WalExtent& extent, const Bytes& pages, postgres::Lsn begin) {
  postgres::WalReader reader({.major = extent.major,
                              .wal_segment_bytes = kSegmentBytes,
                              .start = extent.start,
                              .system_identifier = 0},
                             postgres::testing::memory_input(pages, begin, kSegmentBytes));
  postgres::Lsn end{};
  while (end < extent.end) {
    const postgres::WalRecord* record = reader.next();
    if (record == nullptr) return false;
    end = record->end;
  }
  return true;
}

}  // namespace

// The first byte chooses the version, the second where the extent ends; the rest is WAL from the
// start of a page. What comes out of valid WAL must be readable up to the extent's end. Seeds: as
// for wal_reader_fuzz.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2 + 16) return 0;  // the head of a page says where it belongs
  const int major =
      postgres::kOldestMajor + data[0] % (postgres::kNewestMajor - postgres::kOldestMajor + 1);
  const ByteView wal = std::as_bytes(std::span(data + 2, size - 2));
  const std::uint64_t base = load<std::uint64_t>(wal, 8) & 0x0000FFFFFFFFE000ULL;
  const postgres::Lsn begin{base - base % kSegmentBytes};
  Bytes segments(base - begin.value);
  segments.insert(segments.end(), wal.begin(), wal.end());
  segments.resize((segments.size() + kSegmentBytes - 1) / kSegmentBytes * kSegmentBytes);
  const postgres::WalExtent extent{.major = major,
                                   .wal_segment_bytes = kSegmentBytes,
                                   .start = postgres::Lsn{base == 0 ? 1 : base},
                                   .end = postgres::Lsn{base + 1 + wal.size() * data[1] / 255}};
  const postgres::WalScope scope{.databases = {{5, {.all = false, .files = {1259, 16384}}}}};
  Bytes condensed(segments.size(), std::byte{0xEE});
  postgres::WalCondenser condenser(extent, scope, [&](postgres::Lsn position, ByteView pages) {
    if (position < begin || position.value - begin.value > condensed.size() - pages.size()) {
      std::abort();
    }
    std::ranges::copy(
        pages, condensed.begin() + static_cast<std::ptrdiff_t>(position.value - begin.value));
  });
  try {
    for (std::size_t at = 0; at < segments.size(); at += kSegmentBytes) {
      condenser.add(postgres::examine_wal_segment(extent, scope, postgres::Lsn{begin.value + at},
                                                  ByteView(segments).subspan(at, kSegmentBytes)));
    }
    condenser.finish();
  } catch (const Error&) {
    return 0;  // invalid WAL is refused
  }
  // What a record has inside, readers look at more closely.
  if (readable(extent, segments, begin) && !readable(extent, condensed, begin)) std::abort();
  return 0;
}
