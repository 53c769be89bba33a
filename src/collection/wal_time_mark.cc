#include "collection/wal_time_mark.h"

#include <fmt/format.h>

#include <charconv>

#include "base/bytes.h"
#include "collection/format.h"
#include "collection/names_internal.h"

namespace holdfast::collection {

namespace {

constexpr std::size_t kHexDigits = 16;

storage::ObjectKey key_of(std::uint64_t system_identifier, postgres::TimelineId timeline,
                          const WalTimeMark& mark) {
  const auto microseconds = static_cast<std::uint64_t>(mark.time.time_since_epoch().count());
  return fmt::format("{}/{}.{:016x}{}", wal_timeline_directory(system_identifier, timeline),
                     inverted_hex(microseconds), mark.lsn.value, kWalTimeSuffix);
}

}  // namespace

void put_wal_time_mark(storage::ObjectStore& store, std::uint64_t system_identifier,
                       postgres::TimelineId timeline, const WalTimeMark& mark,
                       const std::optional<WalTimeMark>& earlier, const Stop& stop) {
  // For who looks into the bucket.
  constexpr std::string_view kText = "All that was committed before this time is archived.\n";
  store.put(key_of(system_identifier, timeline, mark), as_bytes(kText),
            storage::PutMode::OnlyIfAbsent, stop);
  if (earlier && earlier->time != mark.time) {
    storage::remove_if_allowed(store, key_of(system_identifier, timeline, *earlier), stop);
  }
}

std::optional<WalTimeMark> parse_wal_time_mark(std::string_view name) {
  if (name.size() != 2 * kHexDigits + 1 + kWalTimeSuffix.size() || name[kHexDigits] != '.' ||
      !name.ends_with(kWalTimeSuffix)) {
    return std::nullopt;
  }
  const auto microseconds = parse_inverted_hex(name.substr(0, kHexDigits));
  const std::string_view digits = name.substr(kHexDigits + 1, kHexDigits);
  std::uint64_t lsn = 0;
  const auto [end, failure] =
      std::from_chars(digits.data(), digits.data() + digits.size(), lsn, 16);
  if (!microseconds || *microseconds > INT64_MAX || failure != std::errc() ||
      end != digits.data() + digits.size()) {
    return std::nullopt;
  }
  return WalTimeMark{Time(std::chrono::microseconds(static_cast<std::int64_t>(*microseconds))),
                     postgres::Lsn{lsn}};
}

}  // namespace holdfast::collection
