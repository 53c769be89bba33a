#include "postgres/wal_scope.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/error.h"
#include "postgres/versions.h"
#include "postgres/wal_format_internal.h"

namespace holdfast::postgres {
namespace {

// Source: PostgreSQL src/include/access/rmgrlist.h (13-18; the numbers never changed).
enum Rmgr : std::uint8_t {
  kXlog = 0,
  kXact = 1,
  kStorage = 2,
  kClog = 3,
  kDatabase = 4,
  kTablespace = 5,
  kMultiXact = 6,
  kRelationMap = 7,
  kStandby = 8,
  kHeap2 = 9,
  kHeap = 10,
  kBtree = 11,
  kGist = 14,
  kCommitTs = 18,
  kReplicationOrigin = 19,
  kLogicalMessage = 21,
  kFirstCustom = 128  // src/include/access/rmgr.h (RM_MIN_CUSTOM_ID), 15 and later
};

// Of a PREPARE: magic, length, xid, database. Source: xact.h (xl_xact_prepare), 13-18.
constexpr std::size_t kPrepareDatabaseOffset = 12;

// Source: PostgreSQL src/include/catalog/storage_xlog.h.
constexpr std::uint8_t kStorageCreate = 0x10;
constexpr std::uint8_t kStorageTruncate = 0x20;
constexpr std::size_t kTruncateLocatorOffset = 4;

// Source: PostgreSQL src/include/access/heapam_xlog.h.
constexpr std::uint8_t kHeapTruncate = 0x30;
constexpr std::uint8_t kHeap2Rewrite = 0x00;
constexpr std::uint8_t kHeap2CleanupInfo = 0x30;  // 13 only
constexpr std::uint8_t kHeap2NewCid = 0x70;

// Source: PostgreSQL src/include/access/nbtxlog.h, gistxlog.h.
constexpr std::uint8_t kBtreeReusePage = 0xD0;
constexpr std::uint8_t kGistPageReuse = 0x20;
constexpr std::uint8_t kGistAssignLsn = 0x70;

// Sources: PostgreSQL src/include/access/xlogrecord.h (XLogRecordBlockHeader and what follows it).
constexpr std::size_t kImageHeaderBytes = 5;
constexpr std::size_t kLocatorBytes = 12;

[[noreturn]] void impossible(std::string_view what) {
  throw Error(sqlstate::kDataCorrupted, fmt::format("WAL record with {}", what));
}

std::uint32_t word(ByteView data, std::size_t offset) {
  if (data.size() < offset + sizeof(std::uint32_t)) impossible("too little data for its kind");
  return load<std::uint32_t>(data, offset);
}

RelationLocator locator(ByteView data, std::size_t offset) {
  return {.tablespace = word(data, offset),
          .database = word(data, offset + 4),
          .relation = word(data, offset + 8)};
}

WalDecision keep_if(bool wanted) { return wanted ? WalDecision::Keep : WalDecision::Replace; }

[[noreturn]] void unknown(const WalRecordHead& head, int major) {
  throw Error(sqlstate::kFeatureNotSupported,
              fmt::format("WAL record of resource manager {} with info {:#04x} and no block "
                          "reference is not known in PostgreSQL {}",
                          head.resource_manager, head.info, major));
}

// Records without block references, each for the reason that stands in
// docs/formats/wal-scope.md.
WalDecision decide_without_blocks(const WalRecordHead& head, const WalScope& scope, int major) {
  const ByteView data = head.main_data;
  switch (head.resource_manager) {
    case kXlog:
    case kClog:
    case kMultiXact:
    case kStandby:
    case kCommitTs:
    case kReplicationOrigin:
      return WalDecision::Keep;
    case kXact:
      if ((head.info & kXactOperation) != kXactPrepare) return WalDecision::Keep;
      return keep_if(scope.holds(word(data, kPrepareDatabaseOffset)));
    case kStorage:
      if (head.info == kStorageCreate) return keep_if(scope.wants(locator(data, 0)));
      if (head.info == kStorageTruncate) {
        return keep_if(scope.wants(locator(data, kTruncateLocatorOffset)));
      }
      unknown(head, major);
    case kDatabase:
      // The database is the first field of all of them.
      return keep_if(scope.holds(word(data, 0)));
    case kRelationMap:
      return keep_if(scope.wants_database(word(data, 0)));
    case kBtree:
      if (head.info == kBtreeReusePage) return keep_if(scope.wants(locator(data, 0)));
      unknown(head, major);
    case kGist:
      if (head.info == kGistPageReuse) return keep_if(scope.wants(locator(data, 0)));
      if (head.info == kGistAssignLsn) return WalDecision::Replace;
      unknown(head, major);
    case kHeap:
      if (head.info == kHeapTruncate) return WalDecision::Replace;
      unknown(head, major);
    case kHeap2:
      if (head.info == kHeap2Rewrite || head.info == kHeap2NewCid ||
          (head.info == kHeap2CleanupInfo && major == 13)) {
        return WalDecision::Replace;
      }
      unknown(head, major);
    case kTablespace:
    case kLogicalMessage:
      return WalDecision::Replace;
    default:
      if (head.resource_manager >= kFirstCustom && major >= 15) return WalDecision::Replace;
      unknown(head, major);
  }
}

/// Takes fields off the front; absent once there are not enough bytes.
class RecordFields {
 public:
  explicit RecordFields(ByteView bytes) : rest_(bytes) {}

  bool skip(std::size_t bytes) {
    if (rest_.size() < bytes) return false;
    rest_ = rest_.subspan(bytes);
    return true;
  }
  template <typename T>
  bool take(T& value) {
    if (rest_.size() < sizeof(T)) return false;
    value = load<T>(rest_, 0);
    rest_ = rest_.subspan(sizeof(T));
    return true;
  }
  ByteView rest() const { return rest_; }

 private:
  ByteView rest_;
};

/// Adds the size of what the block header describes to `payload`. False: more bytes are needed.
bool read_block(RecordFields& fields, const VersionFacts& facts, std::uint64_t& payload,
                RelationLocator& relation, bool first) {
  std::uint8_t flags = 0;
  std::uint16_t data_bytes = 0;
  if (!fields.take(flags) || !fields.take(data_bytes)) return false;
  payload += data_bytes;
  if ((flags & kHasImage) != 0) {
    if (fields.rest().size() < kImageHeaderBytes) return false;
    const auto image_bytes = load<std::uint16_t>(fields.rest(), 0);
    const auto image_info = load<std::uint8_t>(fields.rest(), 4);
    const bool hole_follows =
        (image_info & facts.image_compressed_bits) != 0 && (image_info & kImageHasHole) != 0;
    if (!fields.skip(kImageHeaderBytes + (hole_follows ? 2 : 0))) return false;
    payload += image_bytes;
  }
  if ((flags & kSameRelation) == 0) {
    if (fields.rest().size() < kLocatorBytes) return false;
    relation = locator(fields.rest(), 0);
    fields.skip(kLocatorBytes);
  } else if (first) {
    impossible("the same relation as no block");
  }
  return fields.skip(sizeof(std::uint32_t));  // the block's number
}

}  // namespace

bool WalScope::wants(const RelationLocator& relation) const {
  if (relation.database == 0 || everything) return true;
  const auto found = databases.find(relation.database);
  return found != databases.end() && found->second.wants(relation.relation);
}

WalDecision decide(const WalRecordHead& head, const WalScope& scope, int major) {
  if (head.has_blocks) return keep_if(head.wants_a_block);
  return decide_without_blocks(head, scope, major);
}

bool can_move(const WalRecordHead& head) {
  if (head.has_blocks) return false;
  switch (head.resource_manager) {
    case kXact:
      // A prepared one is found again by where it lies.
      return (head.info & kXactOperation) != kXactPrepare;
    case kClog:
    case kMultiXact:
    case kCommitTs:
    case kStandby:
      return true;
    default:
      return false;
  }
}

bool only_guides_reader(const WalRecordHead& head) {
  return head.resource_manager == kXlog && !head.has_blocks &&
         (head.info == kXlogNoop || head.info == kXlogSwitch ||
          head.info == kXlogOverwriteContrecord);
}

std::optional<WalRecordHead> read_record_head(ByteView bytes, std::uint32_t total,
                                              const WalScope& scope, int major) {
  const VersionFacts& facts = version_facts(major);
  if (bytes.size() < kRecordHeaderBytes) return std::nullopt;
  WalRecordHead head{
      .resource_manager = load<std::uint8_t>(bytes, 17),
      .info = static_cast<std::uint8_t>(load<std::uint8_t>(bytes, 16) & kInfoOwnBits),
      .has_blocks = false,
      .wants_a_block = false,
      .main_data = {}};
  RecordFields fields(bytes.subspan(kRecordHeaderBytes));
  const auto left = [&] { return total - (bytes.size() - fields.rest().size()); };
  std::uint64_t payload = 0;
  RelationLocator relation;
  // As PostgreSQL reads it: headers, until what is left is just what they describe.
  while (left() > payload) {
    std::uint8_t id = 0;
    if (!fields.take(id)) return std::nullopt;
    if (id <= kMaxBlockId) {
      if (!read_block(fields, facts, payload, relation, !head.has_blocks)) return std::nullopt;
      head.has_blocks = true;
      head.wants_a_block = head.wants_a_block || scope.wants(relation);
      // One is enough, and nothing that follows can change it.
      if (head.wants_a_block) return head;
    } else if (id == kIdOrigin) {
      if (!fields.skip(sizeof(std::uint16_t))) return std::nullopt;
    } else if (id == kIdToplevelXid && facts.has_toplevel_xid) {
      if (!fields.skip(sizeof(std::uint32_t))) return std::nullopt;
    } else if (id == kIdDataShort || id == kIdDataLong) {
      if (head.has_blocks) return head;
      std::uint8_t short_bytes = 0;
      std::uint32_t main_bytes = 0;
      if (id == kIdDataLong ? !fields.take(main_bytes) : !fields.take(short_bytes)) {
        return std::nullopt;
      }
      if (id == kIdDataShort) main_bytes = short_bytes;
      if (main_bytes != left()) impossible("an invalid length");
      const std::size_t wanted = std::min<std::size_t>(main_bytes, kScopeMainBytes);
      if (fields.rest().size() < wanted) return std::nullopt;
      head.main_data = fields.rest().first(wanted);
      return head;
    } else {
      impossible(fmt::format("invalid block id {}", id));
    }
  }
  return head;
}

}  // namespace holdfast::postgres
