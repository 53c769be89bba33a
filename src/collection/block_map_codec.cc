#include <fmt/format.h>

#include <optional>

#include "base/assert.h"
#include "base/error.h"
#include "collection/block_map.h"
#include "collection/envelope_internal.h"
#include "collection/format.h"

namespace holdfast::collection {

namespace {

using postgres::Fork;
using postgres::Lsn;

constexpr std::uint8_t kFlagWalMinimal = 0x01;
constexpr std::size_t kHeaderBytes = 40;
constexpr std::size_t kMapVersionAt = 4;
constexpr std::size_t kSystemIdentifierAt = 8;
constexpr std::size_t kTimelineAt = 16;
constexpr std::size_t kMapFlagsAt = 20;
constexpr std::size_t kStartAt = 24;
constexpr std::size_t kEndAt = 32;
// From version 2 on.
constexpr std::size_t kChainedHeaderBytes = 56;
constexpr std::size_t kPreviousRecordAt = 40;
constexpr std::size_t kLastRecordAt = 48;

/// A block reference takes no less in WAL. Source: PostgreSQL src/include/access/xlogrecord.h
/// (id, fork flags, data length and block number, with BKPBLOCK_SAME_REL).
constexpr std::uint64_t kLeastReferenceBytes = 8;
/// References of the record that begins in the range and goes on after it.
constexpr std::uint64_t kReferencesOfOneRecord = 64;

/// The largest WAL segment.
constexpr std::uint64_t kMostCovered = 1ULL << 30;

void put_number(Bytes& out, std::uint64_t number) {
  while (number >= 0x80) {
    out.push_back(static_cast<std::byte>(number | 0x80));
    number >>= 7;
  }
  out.push_back(static_cast<std::byte>(number));
}

/// Takes numbers off the front; throws kDataCorrupted where there is none.
class Numbers {
 public:
  Numbers(ByteView bytes, std::string_view object) : rest_(bytes), object_(object) {}

  Error corrupt(std::string_view why) const {
    return Error(sqlstate::kDataCorrupted, fmt::format("block map \"{}\" is corrupt", object_))
        .detail(std::string(why));
  }

  std::uint64_t take(std::uint64_t most) {
    std::uint64_t number = 0;
    for (unsigned shift = 0;; shift += 7) {
      if (rest_.empty()) throw corrupt("It ends too early.");
      const auto byte = static_cast<std::uint64_t>(rest_.front());
      rest_ = rest_.subspan(1);
      // Only the shortest spelling of a number.
      if (shift > 56 || (byte == 0 && shift > 0)) throw corrupt("It has a malformed number.");
      number |= (byte & 0x7F) << shift;
      if ((byte & 0x80) == 0) break;
    }
    if (number > most) throw corrupt("It has a number out of range.");
    return number;
  }
  std::uint32_t take32(std::uint64_t most = UINT32_MAX) {
    return static_cast<std::uint32_t>(take(most));
  }
  bool done() const { return rest_.empty(); }

 private:
  ByteView rest_;
  std::string_view object_;
};

void put_blocks(Bytes& out, const BlockSet& blocks) {
  const std::vector<BlockRun> runs = blocks.runs();
  put_number(out, runs.size());
  std::uint64_t next = 0;
  for (const BlockRun& run : runs) {
    put_number(out, run.first - next);
    put_number(out, run.count - 1);
    next = std::uint64_t{run.first} + run.count;
  }
}

/// `left` is how many blocks the whole map may still name.
void take_blocks(Numbers& numbers, ForkChanges& fork, std::uint64_t& left) {
  std::uint64_t next = 0;
  for (std::uint64_t runs = numbers.take(UINT32_MAX); runs > 0; --runs) {
    const std::uint64_t gap = numbers.take(UINT32_MAX);
    if (next != 0 && gap == 0) throw numbers.corrupt("Its runs of blocks touch each other.");
    const std::uint64_t first = next + gap;
    const std::uint64_t count = numbers.take(UINT32_MAX) + 1;
    if (count > left) throw numbers.corrupt("It names more blocks than its WAL can.");
    left -= count;
    // The limit is no block's number, being 2^32 - 1 at most.
    if (first + count > fork.limit) throw numbers.corrupt("A block lies beyond its limit.");
    fork.blocks.insert(
        BlockRun{static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(count)});
    next = first + count;
  }
}

WalCoverage parse_header(ByteView plain, std::string_view object) {
  const Numbers complain({}, object);
  if (plain.size() < kHeaderBytes ||
      as_text(plain.first(kBlockMapMagic.size())) != kBlockMapMagic) {
    throw complain.corrupt("It does not begin as a block map does.");
  }
  const auto version = load<std::uint32_t>(plain, kMapVersionAt);
  if (version > kBlockMapVersion) {
    throw Error(sqlstate::kFeatureNotSupported,
                fmt::format("block map \"{}\" has version {}, which is newer than this holdfast",
                            object, version))
        .hint("Use the holdfast that wrote it, or a newer one.");
  }
  const WalCoverage coverage{.system_identifier = load<std::uint64_t>(plain, kSystemIdentifierAt),
                             .timeline = load<std::uint32_t>(plain, kTimelineAt),
                             .start = Lsn{load<std::uint64_t>(plain, kStartAt)},
                             .end = Lsn{load<std::uint64_t>(plain, kEndAt)}};
  if (version == 0 || coverage.timeline == 0 || coverage.end < coverage.start ||
      coverage.end.value - coverage.start.value > kMostCovered) {
    throw complain.corrupt("Its header is impossible.");
  }
  return coverage;
}

std::size_t header_bytes(ByteView plain) {
  return load<std::uint32_t>(plain, kMapVersionAt) == kPlainBlockMapVersion ? kHeaderBytes
                                                                            : kChainedHeaderBytes;
}

/// Of a map whose header is there; unknown in version 1.
WalRecordChain parse_chain(ByteView plain, const WalCoverage& coverage, std::string_view object) {
  if (header_bytes(plain) == kHeaderBytes) return {};
  const Numbers complain({}, object);
  if (plain.size() < kChainedHeaderBytes) throw complain.corrupt("It ends too early.");
  const WalRecordChain chain{.previous = Lsn{load<std::uint64_t>(plain, kPreviousRecordAt)},
                             .last = Lsn{load<std::uint64_t>(plain, kLastRecordAt)}};
  if (!chain.known() || chain.previous >= coverage.start || chain.last < coverage.start ||
      chain.last >= coverage.end) {
    throw complain.corrupt("Its header is impossible.");
  }
  return chain;
}

}  // namespace

Bytes serialize(const BlockMap& map) {
  const WalCoverage& coverage = map.coverage();
  HF_ASSERT(coverage.start <= coverage.end &&
            coverage.end.value - coverage.start.value <= kMostCovered);
  const bool chained = map.records().known();
  Bytes out(chained ? kChainedHeaderBytes : kHeaderBytes);
  std::copy_n(as_bytes(kBlockMapMagic).begin(), kBlockMapMagic.size(), out.begin());
  store<std::uint32_t>(out, kMapVersionAt, chained ? kBlockMapVersion : kPlainBlockMapVersion);
  store<std::uint64_t>(out, kSystemIdentifierAt, coverage.system_identifier);
  store<std::uint32_t>(out, kTimelineAt, coverage.timeline);
  store<std::uint32_t>(out, kMapFlagsAt, map.is_wal_minimal() ? kFlagWalMinimal : 0);
  store<std::uint64_t>(out, kStartAt, coverage.start.value);
  store<std::uint64_t>(out, kEndAt, coverage.end.value);
  if (chained) {
    store<std::uint64_t>(out, kPreviousRecordAt, map.records().previous.value);
    store<std::uint64_t>(out, kLastRecordAt, map.records().last.value);
  }

  put_number(out, map.databases().size());
  for (const auto& [database, tablespace] : map.databases()) {
    put_number(out, database);
    put_number(out, tablespace);
  }
  std::uint64_t forks = 0;
  Bytes rest;
  map.for_each([&](const ForkLocator& locator, const ForkChanges& changes) {
    ++forks;
    put_number(rest, locator.relation.tablespace);
    put_number(rest, locator.relation.database);
    put_number(rest, locator.relation.relation);
    put_number(rest, static_cast<std::uint64_t>(locator.fork));
    // So that the usual case, no limit, takes one byte.
    put_number(rest, changes.limit == ForkChanges::kNoLimit ? 0 : std::uint64_t{changes.limit} + 1);
    put_blocks(rest, changes.blocks);
  });
  put_number(out, forks);
  out.insert(out.end(), rest.begin(), rest.end());
  return seal_envelope(out);
}

BlockMap parse_block_map(ByteView stored, std::string_view object) {
  const Bytes plain = open_envelope(stored, object);
  BlockMap map(parse_header(plain, object));
  const std::uint64_t covered = map.coverage().end.value - map.coverage().start.value;
  std::uint64_t blocks_left = covered / kLeastReferenceBytes + kReferencesOfOneRecord;
  map.set_records(parse_chain(plain, map.coverage(), object));
  Numbers numbers(ByteView(plain).subspan(header_bytes(plain)), object);

  const auto flags = load<std::uint32_t>(plain, kMapFlagsAt);
  if ((flags & ~std::uint32_t{kFlagWalMinimal}) != 0)
    throw numbers.corrupt("It has unknown flags.");
  if (flags != 0) map.wal_minimal();

  std::optional<std::pair<std::uint32_t, std::uint32_t>> previous_database;
  for (std::uint64_t n = numbers.take(UINT32_MAX); n > 0; --n) {
    const auto database = numbers.take32();
    const auto tablespace = numbers.take32();
    const std::pair next(database, tablespace);
    if (previous_database && next <= *previous_database) {
      throw numbers.corrupt("Its databases are not in order.");
    }
    previous_database = next;
    map.database(database, tablespace);
  }

  std::optional<ForkLocator> previous;
  for (std::uint64_t n = numbers.take(UINT32_MAX); n > 0; --n) {
    ForkLocator locator;
    locator.relation.tablespace = numbers.take32();
    locator.relation.database = numbers.take32();
    locator.relation.relation = numbers.take32();
    locator.fork = static_cast<Fork>(numbers.take(static_cast<std::uint64_t>(Fork::Init)));
    if (locator.fork != Fork::Main && locator.fork != Fork::Init) {
      throw numbers.corrupt("It names a fork that no map holds.");
    }
    if (previous && locator <= *previous) throw numbers.corrupt("Its forks are not in order.");
    previous = locator;
    ForkChanges changes;
    const auto limit = numbers.take(std::uint64_t{UINT32_MAX});
    if (limit != 0) changes.limit = static_cast<std::uint32_t>(limit - 1);
    take_blocks(numbers, changes, blocks_left);
    map.add(locator, std::move(changes));
  }
  if (!numbers.done()) throw numbers.corrupt("It goes on after its end.");
  return map;
}

}  // namespace holdfast::collection
