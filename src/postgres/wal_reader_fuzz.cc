#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/error.h"
#include "postgres/crc32c.h"
#include "postgres/tablespace_creation.h"
#include "postgres/versions.h"
#include "postgres/wal_reader.h"
#include "postgres/wal_scan.h"

using namespace holdfast;

namespace {

constexpr std::uint64_t kSegmentBytes = 1U << 20;
constexpr std::uint64_t kPageBytes = 8192;

// Puts bytes into a page as the body of one record with a right checksum, so that decoding sees
// them.
Bytes page_with_record(int major, ByteView body) {
  Bytes page(kPageBytes);
  store<std::uint16_t>(page, 0, postgres::version_facts(major).wal_page_magic);
  store<std::uint64_t>(page, 8, kPageBytes);
  const MutableByteView record = MutableByteView(page).subspan(24);
  body = body.first(std::min<std::size_t>(body.size(), record.size() - 24));
  store<std::uint32_t>(record, 0, static_cast<std::uint32_t>(24 + body.size()));
  if (!body.empty()) {
    // xl_info and the resource manager come from the input too.
    store<std::byte>(record, 16, body.front());
    store<std::byte>(record, 17, body.back());
  }
  std::copy(body.begin(), body.end(), record.begin() + 24);
  const ByteView view = record;
  store<std::uint32_t>(
      record, 20,
      postgres::crc32c(view.first(20), postgres::crc32c(view.subspan(24, body.size()))));
  return page;
}

}  // namespace

// The first byte chooses the version; with its highest bit the rest is one record's body, without
// it WAL from the start of a page. Seeds: testdata/wal_<major>.bin, each with a byte before it that
// chooses its version (0 for 13).
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const int major = postgres::kOldestMajor +
                    (data[0] & 0x7F) % (postgres::kNewestMajor - postgres::kOldestMajor + 1);
  ByteView wal = std::as_bytes(std::span(data + 1, size - 1));
  Bytes page;
  if ((data[0] & 0x80) != 0) {
    page = page_with_record(major, wal);
    wal = page;
  }
  // The seeds' pages name the position that they were taken from.
  std::uint64_t base = kSegmentBytes;
  if (wal.size() >= 16) base = load<std::uint64_t>(wal, 8) & 0xFFFFFFFFFFFFE000ULL;
  const auto input = [&](std::uint64_t segment, std::uint64_t offset, MutableByteView out) {
    const std::uint64_t at = segment * kSegmentBytes + offset - base;
    if (at > wal.size() || wal.size() - at < out.size()) return false;
    std::memcpy(out.data(), wal.data() + at, out.size());
    return true;
  };
  postgres::WalReader reader({.major = major,
                              .wal_segment_bytes = kSegmentBytes,
                              .start = postgres::Lsn{base},
                              .system_identifier = 0},
                             input);
  std::uint64_t sum = 0;
  while (const auto* record = reader.next()) {
    for (const auto& block : record->blocks) {
      for (const auto byte : block.image) sum += static_cast<std::uint64_t>(byte);
      for (const auto byte : block.data) sum += static_cast<std::uint64_t>(byte);
    }
    for (const auto byte : record->main_data) sum += static_cast<std::uint64_t>(byte);
    try {
      postgres::parse_xact_record(*record, major);
      postgres::redefined_relations(*record, major);
    } catch (const Error&) {
      // An impossible transaction record is refused.
    }
    try {
      const auto created = postgres::parse_tablespace_creation(*record);
      if (created && !created->location.empty()) {
        sum += postgres::with_path(*record, postgres::TablespacePath::Hidden).size();
        sum += postgres::with_path(*record, postgres::TablespacePath::Seen).size();
      }
    } catch (const Error&) {
      // So is one of a tablespace.
    }
  }
  volatile std::uint64_t keep = sum;
  static_cast<void>(keep);
  return 0;
}
