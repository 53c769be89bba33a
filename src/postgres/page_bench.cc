#include <benchmark/benchmark.h>

#include <cstddef>
#include <vector>

#include "postgres/crc32c.h"
#include "postgres/page.h"

namespace holdfast::postgres {
namespace {

// Pages that look used (pd_upper is not 0) with a right checksum.
Bytes make_pages(std::size_t count) {
  Bytes pages(count * kPageBytes);
  std::uint32_t state = 1;
  for (auto& byte : pages) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<std::byte>(state >> 24);
  }
  for (std::size_t i = 0; i < count; ++i) {
    MutableByteView page = MutableByteView(pages).subspan(i * kPageBytes, kPageBytes);
    store<std::uint16_t>(page, 14, 4096);
    store<std::uint16_t>(page, 8, page_checksum(page, static_cast<std::uint32_t>(i)));
  }
  return pages;
}

void BM_VerifyPages(benchmark::State& state) {
  const Bytes pages = make_pages(static_cast<std::size_t>(state.range(0)));
  std::vector<std::uint32_t> bad;
  for (auto _ : state) {
    verify_pages(pages, 0, bad);
    benchmark::DoNotOptimize(bad.data());
  }
  if (!bad.empty()) state.SkipWithError("a page failed");
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * pages.size()));
}
BENCHMARK(BM_VerifyPages)->Arg(1)->Arg(16)->Arg(128)->Arg(16384);

void BM_PageChecksum(benchmark::State& state) {
  const Bytes pages = make_pages(1);
  for (auto _ : state) benchmark::DoNotOptimize(page_checksum(pages, 0));
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * pages.size()));
}
BENCHMARK(BM_PageChecksum);

void BM_Crc32c(benchmark::State& state) {
  const Bytes pages = make_pages(16);
  for (auto _ : state) benchmark::DoNotOptimize(crc32c(pages));
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * pages.size()));
}
BENCHMARK(BM_Crc32c);

}  // namespace
}  // namespace holdfast::postgres
