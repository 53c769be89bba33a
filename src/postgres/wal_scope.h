#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <unordered_set>

#include "base/bytes.h"
#include "postgres/relation_path.h"

namespace holdfast::postgres {

/// What a partial copy of a cluster contains: the shared relations always, and of each database
/// named here all relations or some. Tablespaces do not count: a relation that moves from one to
/// another stays in scope.
struct WalScope {
  struct Relations {
    /// False: only `files`.
    bool all = true;
    std::unordered_set<std::uint32_t> files{};  ///< relfilenodes; with `all`, those left out
    bool wants(std::uint32_t file) const { return all != files.contains(file); }
  };
  std::map<std::uint32_t, Relations> databases;  ///< by OID
  /// Every database, also those that the WAL creates; `databases` does not count then.
  bool everything = false;

  bool holds(std::uint32_t database) const { return everything || databases.contains(database); }
  bool wants_database(std::uint32_t database) const { return database == 0 || holds(database); }
  bool wants(const RelationLocator& relation) const;
};

/// The beginning of a WAL record, as far as it says what the record concerns.
struct WalRecordHead {
  std::uint8_t resource_manager = 0;
  std::uint8_t info = 0;  ///< the resource manager's own bits
  bool has_blocks = false;
  bool wants_a_block = false;  ///< one of its block references is in scope
  ByteView main_data;          ///< of a record without block references: its first bytes
};

/// The most of a record's main data that the decision looks at.
inline constexpr std::size_t kScopeMainBytes = 16;

enum class WalDecision {
  Keep,
  Replace  ///< by a record that does nothing
};

/// Whether recovery of a copy with this scope needs the record. Records that refer to blocks are
/// kept if one is in scope; docs/formats/wal-scope.md has the table for the others. A record that
/// no supported version writes is refused (kFeatureNotSupported), one that is too short for its
/// kind too (kDataCorrupted): to guess would be to lose data unseen.
WalDecision decide(const WalRecordHead& head, const WalScope& scope, int major);

/// Whether recovery does the same when the record comes at an earlier place, as long as the records
/// that are kept stay in their order: nothing that it changes carries an LSN, and nothing refers to
/// where it lies. Said only of transactions' ends and of shared state, of which there is much.
bool can_move(const WalRecordHead& head);

/// Whether the record only tells a reader of WAL how to go on, and recovery does nothing for it.
bool only_guides_reader(const WalRecordHead& head);

/// What decide() needs of a record, from its first bytes, header first. Absent: more of them are
/// needed (there are more, or the record is impossible: then `total` bytes are not enough either).
/// Throws kDataCorrupted when the record is impossible.
std::optional<WalRecordHead> read_record_head(ByteView bytes, std::uint32_t total,
                                              const WalScope& scope, int major);

}  // namespace holdfast::postgres
