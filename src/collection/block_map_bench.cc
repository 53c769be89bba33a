#include <benchmark/benchmark.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>

#include "collection/block_map.h"

// What decoding costs, with all checksums compared. HOLDFAST_BENCH_WAL names a directory of WAL
// segments of PostgreSQL 15, timeline 1, and where to begin and to end: "/data/pg_wal 0/1000028
// 0/24000000". It is read into memory first.
namespace holdfast::collection {
namespace {

struct Wal {
  Bytes bytes;
  std::uint64_t first_byte = 0;
  std::uint64_t segment_bytes = 16U << 20;
  postgres::Lsn start;
  postgres::Lsn end;

  postgres::WalInput input() const {
    return [this](std::uint64_t segment, std::uint64_t offset, MutableByteView out) {
      const std::uint64_t at = segment * segment_bytes + offset - first_byte;
      if (at > bytes.size() || bytes.size() - at < out.size()) return false;
      std::memcpy(out.data(), bytes.data() + at, out.size());
      return true;
    };
  }
  postgres::WalRange range() const {
    return {.reader = {.major = 15, .wal_segment_bytes = segment_bytes, .start = start},
            .end = end};
  }
};

std::optional<Wal> load_wal() {
  const char* given = std::getenv("HOLDFAST_BENCH_WAL");
  if (given == nullptr) return std::nullopt;
  const std::string text = given;
  const auto one = text.find(' ');
  const auto two = text.rfind(' ');
  Wal wal;
  wal.start = postgres::parse_lsn(text.substr(one + 1, two - one - 1)).value();
  wal.end = postgres::parse_lsn(text.substr(two + 1)).value();
  const std::uint64_t first = segment_of(wal.start, wal.segment_bytes);
  wal.first_byte = first * wal.segment_bytes;
  for (std::uint64_t segment = first; segment <= segment_of(wal.end, wal.segment_bytes);
       ++segment) {
    std::ifstream file(
        text.substr(0, one) + '/' + postgres::wal_segment_name(1, segment, wal.segment_bytes),
        std::ios::binary);
    const std::string content{std::istreambuf_iterator<char>(file), {}};
    const ByteView view = as_bytes(content);
    wal.bytes.insert(wal.bytes.end(), view.begin(), view.end());
  }
  return wal;
}

void BM_BuildBlockMap(benchmark::State& state) {
  const auto wal = load_wal();
  if (!wal) {
    state.SkipWithError("HOLDFAST_BENCH_WAL is not set");
    return;
  }
  for (auto _ : state) {
    const BlockMap map = build_block_map(wal->range(), 1, wal->input(), Stop::never());
    benchmark::DoNotOptimize(map.changed_blocks());
  }
  state.SetBytesProcessed(
      static_cast<std::int64_t>(state.iterations() * (wal->end.value - wal->start.value)));
}
BENCHMARK(BM_BuildBlockMap)->Unit(benchmark::kMillisecond);

void BM_ReadRecords(benchmark::State& state) {
  const auto wal = load_wal();
  if (!wal) {
    state.SkipWithError("HOLDFAST_BENCH_WAL is not set");
    return;
  }
  std::int64_t records = 0;
  for (auto _ : state) {
    postgres::scan_wal(
        wal->range(), wal->input(), [&](const postgres::WalRecord&) { ++records; }, Stop::never());
  }
  state.SetBytesProcessed(
      static_cast<std::int64_t>(state.iterations() * (wal->end.value - wal->start.value)));
  state.SetItemsProcessed(records);
}
BENCHMARK(BM_ReadRecords)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace holdfast::collection
