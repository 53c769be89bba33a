#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "postgres/versions.h"
#include "postgres/wal_filter.h"

using namespace holdfast;

// The first byte chooses the version and how many pages are handed over at once; the rest is WAL
// from the start of a page. What comes out must be as long as what went in. Seeds: as for
// wal_reader_fuzz.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::uint64_t kSegmentBytes = 1U << 20;
  constexpr std::size_t kPageBytes = 8192;
  if (size < 2 + 16) return 0;  // the head of a page says where it belongs
  const int major =
      postgres::kOldestMajor + data[0] % (postgres::kNewestMajor - postgres::kOldestMajor + 1);
  const std::size_t step = (1 + data[1] % 4U) * kPageBytes;
  const ByteView wal = std::as_bytes(std::span(data + 2, size - 2));
  const std::uint64_t base = load<std::uint64_t>(wal, 8) & 0x0000FFFFFFFFE000ULL;
  const std::uint64_t segment_start = base - base % kSegmentBytes;
  Bytes pages(static_cast<std::size_t>(base - segment_start));
  pages.insert(pages.end(), wal.begin(), wal.end());
  pages.resize((pages.size() + kPageBytes - 1) / kPageBytes * kPageBytes);
  postgres::WalFilter filter({.major = major,
                              .wal_segment_bytes = kSegmentBytes,
                              .start = postgres::Lsn{base == 0 ? 1 : base},
                              .end = postgres::Lsn{base + wal.size()}},
                             {.databases = {{5, {.all = false, .files = {1259, 16384}}}}});
  std::size_t given = 0;
  std::size_t taken = 0;
  const auto output = [&](postgres::Lsn, ByteView bytes) { taken += bytes.size(); };
  try {
    while (given < pages.size()) {
      const std::size_t now = std::min(step, pages.size() - given);
      filter.push(ByteView(pages).subspan(given, now), output);
      given += now;
    }
    filter.finish(output);
    if (taken != given) std::abort();
  } catch (const Error&) {
    // Invalid WAL is refused.
  }
  return 0;
}
