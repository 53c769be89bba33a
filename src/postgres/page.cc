#include "postgres/page.h"

#include <cstring>

#include "base/assert.h"

namespace holdfast::postgres {
namespace {

// The checksum runs 32 FNV-1a-like sums side by side, one for each 32-bit column of the page, and
// folds them with XOR. Source: PostgreSQL src/include/storage/checksum_impl.h.
constexpr std::size_t kSums = 32;
constexpr std::size_t kRows = kPageBytes / (kSums * sizeof(std::uint32_t));
constexpr std::uint32_t kPrime = 16777619;
constexpr std::size_t kChecksumOffset = 8;

alignas(64) constexpr std::uint32_t kBasis[kSums] = {
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
    0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
    0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
    0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756};

// A vector of 32-bit lanes; GCC and clang make the widest instructions of the function's target of
// it.
template <std::size_t kBytes>
struct Lanes {
  using Type [[gnu::vector_size(kBytes)]] = std::uint32_t;
};

// Sums of `kPages` pages that lie one after the other, done together: one page alone waits for the
// latency of each multiplication. Always inlined, so that it is compiled for its caller's target.
template <std::size_t kVectorBytes, std::size_t kPages>
[[gnu::always_inline]] inline void sum_pages(const std::byte* pages, std::uint32_t* results) {
  using Vector = typename Lanes<kVectorBytes>::Type;
  constexpr std::size_t kVectors = kSums * sizeof(std::uint32_t) / kVectorBytes;
  constexpr std::size_t kRowBytes = kSums * sizeof(std::uint32_t);

  Vector sums[kPages][kVectors];
  // The checksum field is part of the first row, and counts as zero.
  alignas(64) std::byte first_rows[kPages][kRowBytes];
#pragma GCC unroll 8
  for (std::size_t page = 0; page < kPages; ++page) {
    std::memcpy(first_rows[page], pages + page * kPageBytes, kRowBytes);
    std::memset(first_rows[page] + kChecksumOffset, 0, sizeof(std::uint16_t));
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kVectors; ++v) {
      Vector value;
      std::memcpy(&sums[page][v], reinterpret_cast<const std::byte*>(kBasis) + v * kVectorBytes,
                  kVectorBytes);
      std::memcpy(&value, first_rows[page] + v * kVectorBytes, kVectorBytes);
      value ^= sums[page][v];
      sums[page][v] = value * kPrime ^ value >> 17;
    }
  }
  for (std::size_t row = 1; row < kRows; ++row) {
#pragma GCC unroll 8
    for (std::size_t page = 0; page < kPages; ++page) {
#pragma GCC unroll 8
      for (std::size_t v = 0; v < kVectors; ++v) {
        Vector value;
        std::memcpy(&value, pages + page * kPageBytes + row * kRowBytes + v * kVectorBytes,
                    kVectorBytes);
        value ^= sums[page][v];
        sums[page][v] = value * kPrime ^ value >> 17;
      }
    }
  }
#pragma GCC unroll 8
  for (std::size_t page = 0; page < kPages; ++page) {
    Vector folded = {};
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kVectors; ++v) {
      Vector value = sums[page][v];
      value = value * kPrime ^ value >> 17;
      value = value * kPrime ^ value >> 17;
      folded ^= value;
    }
    std::uint32_t lanes[kVectorBytes / sizeof(std::uint32_t)];
    std::memcpy(lanes, &folded, sizeof lanes);
    std::uint32_t result = 0;
    for (const std::uint32_t lane : lanes) result ^= lane;
    results[page] = result;
  }
}

constexpr std::size_t kGroup = 4;  // pages that the functions below do at a time

using SumGroup = void (*)(const std::byte* pages, std::uint32_t* results);

void sum_group_baseline(const std::byte* pages, std::uint32_t* results) {
  for (std::size_t i = 0; i < kGroup; ++i) sum_pages<16, 1>(pages + i * kPageBytes, results + i);
}
void sum_one_baseline(const std::byte* page, std::uint32_t* result) {
  sum_pages<16, 1>(page, result);
}

#if defined(__x86_64__)
// GCC splits 512-bit vectors unless told otherwise; clang has no such word, and does not.
#if defined(__clang__)
#define HF_TARGET_AVX512 [[gnu::target("avx512f")]]
#else
#define HF_TARGET_AVX512 [[gnu::target("avx512f,prefer-vector-width=512")]]
#endif
[[gnu::target("avx2")]] void sum_group_avx2(const std::byte* pages, std::uint32_t* results) {
  // Sixteen registers: two pages take eight for their sums.
  sum_pages<32, 2>(pages, results);
  sum_pages<32, 2>(pages + 2 * kPageBytes, results + 2);
}
[[gnu::target("avx2")]] void sum_one_avx2(const std::byte* page, std::uint32_t* result) {
  sum_pages<32, 1>(page, result);
}
HF_TARGET_AVX512 void sum_group_avx512(const std::byte* pages, std::uint32_t* results) {
  sum_pages<64, 4>(pages, results);
}
HF_TARGET_AVX512 void sum_one_avx512(const std::byte* page, std::uint32_t* result) {
  sum_pages<64, 1>(page, result);
}
#endif

struct Implementation {
  SumGroup group = sum_group_baseline;
  SumGroup one = sum_one_baseline;
};

const Implementation& implementation() {
  static const Implementation chosen = [] {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) return Implementation{sum_group_avx512, sum_one_avx512};
    if (__builtin_cpu_supports("avx2")) return Implementation{sum_group_avx2, sum_one_avx2};
#endif
    return Implementation{};
  }();
  return chosen;
}

std::uint16_t fold(std::uint32_t sum, std::uint32_t block) {
  return static_cast<std::uint16_t>((sum ^ block) % 65535 + 1);
}

constexpr std::size_t kUpperOffset = 14;

std::uint16_t load16(const std::byte* page, std::size_t offset) {
  std::uint16_t value;
  std::memcpy(&value, page + offset, sizeof value);
  return value;
}

bool matches(const std::byte* page, std::uint32_t sum, std::uint32_t block) {
  if (load16(page, kUpperOffset) == 0) return page_is_zero({page, kPageBytes});
  return load16(page, kChecksumOffset) == fold(sum, block);
}

}  // namespace

PageHeader parse_page_header(ByteView page) {
  HF_ASSERT(page.size() >= kPageHeaderBytes);
  PageHeader header;
  // pd_lsn is two 32-bit words, the high one first.
  header.lsn =
      Lsn{std::uint64_t{load<std::uint32_t>(page, 0)} << 32 | load<std::uint32_t>(page, 4)};
  header.checksum = load<std::uint16_t>(page, kChecksumOffset);
  header.flags = load<std::uint16_t>(page, 10);
  header.lower = load<std::uint16_t>(page, 12);
  header.upper = load<std::uint16_t>(page, kUpperOffset);
  header.special = load<std::uint16_t>(page, 16);
  header.size_and_version = load<std::uint16_t>(page, 18);
  header.prune_xid = load<std::uint32_t>(page, 20);
  return header;
}

bool page_is_zero(ByteView page) {
  HF_ASSERT(page.size() == kPageBytes);
  // Every byte equals the one eight places before it, and the first eight are zero.
  return load<std::uint64_t>(page, 0) == 0 &&
         std::memcmp(page.data(), page.data() + 8, kPageBytes - 8) == 0;
}

std::uint16_t page_checksum(ByteView page, std::uint32_t block) {
  HF_ASSERT(page.size() == kPageBytes);
  std::uint32_t sum = 0;
  implementation().one(page.data(), &sum);
  return fold(sum, block);
}

void verify_pages(ByteView pages, std::uint32_t first_block, std::vector<std::uint32_t>& bad) {
  HF_ASSERT(pages.size() % kPageBytes == 0);
  const std::size_t count = pages.size() / kPageBytes;
  const Implementation& use = implementation();
  std::size_t done = 0;
  std::uint32_t sums[kGroup];
  const auto judge = [&](std::size_t group) {
    for (std::size_t i = 0; i < group; ++i) {
      const auto block = static_cast<std::uint32_t>(first_block + done + i);
      if (!matches(pages.data() + (done + i) * kPageBytes, sums[i], block)) bad.push_back(block);
    }
    done += group;
  };
  while (count - done >= kGroup) {
    use.group(pages.data() + done * kPageBytes, sums);
    judge(kGroup);
  }
  while (done < count) {
    use.one(pages.data() + done * kPageBytes, sums);
    judge(1);
  }
}

bool page_is_valid(ByteView page, std::uint32_t block) {
  std::vector<std::uint32_t> bad;
  verify_pages(page, block, bad);
  return bad.empty();
}

}  // namespace holdfast::postgres
