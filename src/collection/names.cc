#include <fmt/format.h>

#include <chrono>

#include "base/assert.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "collection/names_internal.h"

namespace holdfast::collection {

using storage::ObjectKey;

namespace {

/// The number that `digits`, all of them decimal, stand for; absent otherwise.
std::optional<unsigned> parse_digits(std::string_view digits) {
  unsigned number = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9') return std::nullopt;
    number = number * 10 + static_cast<unsigned>(c - '0');
  }
  return number;
}

}  // namespace

ObjectKey manifest_key(std::string_view directory) {
  return fmt::format("{}/{}", directory, kManifestName);
}

ObjectKey pack_key(std::string_view directory, std::uint32_t number) {
  return fmt::format("{}/{}/{}{}", directory, kDataDirectory, number, kPackSuffix);
}

ObjectKey lock_key(std::string_view directory, std::int64_t job_id) {
  return fmt::format("{}/{}{}", directory, kLockPrefix, job_id);
}

ObjectKey wal_archive_mark_key(std::uint64_t system_identifier) {
  return fmt::format("{}/{}/{}", kWalDirectory, system_identifier, kWalArchiveMark);
}

ObjectKey wal_timeline_directory(std::uint64_t system_identifier, std::uint32_t timeline) {
  return fmt::format("{}/{}/{:08X}", kWalDirectory, system_identifier, timeline);
}

ObjectKey wal_part_key(std::uint64_t system_identifier, std::uint32_t timeline,
                       std::uint64_t segment, std::uint64_t wal_segment_bytes, std::uint32_t part) {
  HF_ASSERT(wal_segment_bytes > 0);
  // Source: PostgreSQL src/include/access/xlog_internal.h (XLogFileName).
  const std::uint64_t per_id = 0x100000000ULL / wal_segment_bytes;
  return fmt::format("{}/{:08X}{:08X}{:08X}{}{}",
                     wal_timeline_directory(system_identifier, timeline), timeline,
                     segment / per_id, segment % per_id,
                     part == 0 ? std::string() : fmt::format(".{}", part), kWalSuffix);
}

ObjectKey wal_key(std::uint64_t system_identifier, std::uint32_t timeline, std::uint64_t segment,
                  std::uint64_t wal_segment_bytes) {
  return wal_part_key(system_identifier, timeline, segment, wal_segment_bytes, 0);
}

ObjectKey history_key(std::uint64_t system_identifier, std::uint32_t timeline) {
  return fmt::format("{}{}", wal_timeline_directory(system_identifier, timeline), kHistorySuffix);
}

std::string inverted_hex(std::uint64_t number) { return fmt::format("{:016x}", ~number); }

std::optional<std::uint64_t> parse_inverted_hex(std::string_view text) {
  const std::optional<Bytes> bytes = from_hex(text);
  if (!bytes || bytes->size() != 8) return std::nullopt;
  std::uint64_t inverted = 0;
  for (const std::byte byte : *bytes) inverted = inverted << 8 | static_cast<std::uint64_t>(byte);
  // Only the spelling that is written: two names must not stand for one number.
  if (inverted_hex(~inverted) != text) return std::nullopt;
  return ~inverted;
}

std::string subdirectory_for(Time time) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const auto centiseconds =
      std::chrono::duration_cast<std::chrono::microseconds>(time - day).count() / 10000;
  return fmt::format("{:04}/{:02}/{:02}-{:02}{:02}{:02}.{:02}", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     centiseconds / 360000, centiseconds / 6000 % 60, centiseconds / 100 % 60,
                     centiseconds % 100);
}

std::optional<Time> parse_subdirectory(std::string_view text) {
  if (text.starts_with('/')) text.remove_prefix(1);
  // 2026/11/20-223000.00
  if (text.size() != 20 || text[4] != '/' || text[7] != '/' || text[10] != '-' || text[17] != '.') {
    return std::nullopt;
  }
  const auto year = parse_digits(text.substr(0, 4));
  const auto month = parse_digits(text.substr(5, 2));
  const auto day = parse_digits(text.substr(8, 2));
  const auto hour = parse_digits(text.substr(11, 2));
  const auto minute = parse_digits(text.substr(13, 2));
  const auto second = parse_digits(text.substr(15, 2));
  const auto centisecond = parse_digits(text.substr(18, 2));
  if (!year || !month || !day || !hour || !minute || !second || !centisecond) return std::nullopt;
  const std::chrono::year_month_day date(std::chrono::year(static_cast<int>(*year)),
                                         std::chrono::month(*month), std::chrono::day(*day));
  if (!date.ok() || *hour > 23 || *minute > 59 || *second > 59) return std::nullopt;
  return Time(std::chrono::sys_days(date)) + std::chrono::hours(*hour) +
         std::chrono::minutes(*minute) + std::chrono::seconds(*second) +
         std::chrono::milliseconds(*centisecond * 10);
}

std::string incrementals_of(std::string_view full) {
  return fmt::format("{}/{}", kIncrementalsDirectory, full);
}

std::string incremental_directory(std::string_view full, Time time) {
  // 2026/11/20-223000.00 becomes 20261120/223000.00
  const std::string name = subdirectory_for(time);
  return fmt::format("{}/{}{}{}/{}", incrementals_of(full), name.substr(0, 4), name.substr(5, 2),
                     name.substr(8, 2), name.substr(11));
}

std::optional<IncrementalName> parse_incremental_directory(std::string_view text) {
  // incrementals/2026/11/20-223000.00/20261120/223000.00
  constexpr std::size_t kFullNameBytes = 20;
  constexpr std::size_t kNameBytes = 18;
  const std::size_t prefix = kIncrementalsDirectory.size() + 1;
  if (text.size() != prefix + kFullNameBytes + 1 + kNameBytes ||
      !text.starts_with(kIncrementalsDirectory)) {
    return std::nullopt;
  }
  const std::string full(text.substr(prefix, kFullNameBytes));
  const std::string_view name = text.substr(prefix + kFullNameBytes + 1);
  const auto time = parse_subdirectory(fmt::format(
      "{}/{}/{}-{}", name.substr(0, 4), name.substr(4, 2), name.substr(6, 2), name.substr(9)));
  if (!time || !parse_subdirectory(full) || incremental_directory(full, *time) != text) {
    return std::nullopt;
  }
  return IncrementalName{.full = full, .time = *time};
}

bool is_layer_directory(std::string_view text) {
  return !text.starts_with('/') &&
         (parse_subdirectory(text).has_value() || parse_incremental_directory(text).has_value());
}

}  // namespace holdfast::collection
