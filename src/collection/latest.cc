#include <fmt/format.h>

#include <algorithm>
#include <atomic>

#include "base/error.h"
#include "base/worker_pool.h"
#include "collection/collection.h"
#include "collection/format.h"
#include "collection/hash_internal.h"
#include "collection/names_internal.h"

namespace holdfast::collection {

namespace {

using storage::ObjectKey;
using storage::ObjectStore;

/// The content is shorter: a subdirectory, a line end, 32 hexadecimal digits, a line end.
constexpr std::uint64_t kLongestLatest = 256;

/// Asking for this many manifests one after the other is quick everywhere.
constexpr std::size_t kFewFulls = 16;
constexpr std::size_t kStatWorkers = 8;

std::string latest_content(std::string_view subdirectory) {
  return fmt::format("{}\n{}\n", subdirectory, to_hex(to_bytes(hash128(as_bytes(subdirectory)))));
}

ObjectKey latest_key(std::uint64_t number) {
  return fmt::format("{}/{}{}", kLatestDirectory, kLatestPrefix, inverted_hex(number));
}

/// The number in the name of the newest LATEST object; absent when there is none.
std::optional<std::uint64_t> newest_latest(ObjectStore& store, const Stop& stop) {
  std::optional<std::uint64_t> newest;
  const std::string start = fmt::format("{}/{}", kLatestDirectory, kLatestPrefix);
  store.list(
      std::string(kLatestDirectory),
      [&](const storage::ObjectInfo& info) {
        if (!info.key.starts_with(start)) return;
        const auto number = parse_inverted_hex(std::string_view(info.key).substr(start.size()));
        if (number && (!newest || *number > *newest)) newest = number;
      },
      stop);
  return newest;
}

bool is_number(std::string_view text, std::size_t digits) {
  return text.size() == digits &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

std::string resolve_latest(ObjectStore& store, const Stop& stop) {
  const std::optional<std::uint64_t> newest = newest_latest(store, stop);
  if (!newest) {
    // CockroachDB's words (reference, section 3.2).
    throw Error(sqlstate::kUndefinedFile, "path does not contain a completed latest backup")
        .detail(
            fmt::format("\"{}\" has no object in \"{}\".", store.description(), kLatestDirectory))
        .hint("Take a full backup with BACKUP INTO, or list the backups with SHOW BACKUPS IN.");
  }
  const ObjectKey key = latest_key(*newest);
  const std::optional<Bytes> content = get_whole(store, key, kLongestLatest, stop);
  const std::string_view text = content ? as_text(*content) : std::string_view();
  const std::string_view subdirectory = text.substr(0, text.find('\n'));
  if (!parse_subdirectory(subdirectory) || text != latest_content(subdirectory)) {
    throw Error(sqlstate::kDataCorrupted, "malformed LATEST file")
        .detail(fmt::format("Object \"{}\" of \"{}\" does not name a full backup.", key,
                            store.description()))
        .hint("List the backups with SHOW BACKUPS IN and name one instead of LATEST.");
  }
  return std::string(subdirectory);
}

void write_latest(ObjectStore& store, std::string_view subdirectory, Time now, const Stop& stop) {
  const std::string content = latest_content(subdirectory);
  const auto wanted = static_cast<std::uint64_t>(now.time_since_epoch().count());
  while (true) {
    // Also when the clock was set back since the last backup.
    const std::optional<std::uint64_t> newest = newest_latest(store, stop);
    const std::uint64_t number = newest ? std::max(wanted, *newest + 1) : wanted;
    if (store.put(latest_key(number), as_bytes(content), storage::PutMode::OnlyIfAbsent, stop) ==
        storage::PutResult::Stored) {
      return;
    }
  }
}

std::vector<std::string> list_full_directories(ObjectStore& store, const Stop& stop) {
  std::vector<std::string> found;
  for (const std::string& year : store.list_directories("", stop)) {
    if (!is_number(year, 4)) continue;
    for (const std::string& month : store.list_directories(year, stop)) {
      if (!is_number(month, 2)) continue;
      const std::string above = year + "/" + month;
      for (const std::string& day : store.list_directories(above, stop)) {
        std::string directory = above + "/" + day;
        if (parse_subdirectory(directory)) found.push_back(std::move(directory));
      }
    }
  }
  // All names are of one length, so that the order of names is that of times.
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<std::string> list_fulls(ObjectStore& store, const Stop& stop) {
  std::vector<std::string> candidates = list_full_directories(store, stop);
  // What lacks a manifest does not exist.
  std::vector<char> finished(candidates.size());
  std::atomic<std::size_t> next = 0;
  run_workers(candidates.size() <= kFewFulls ? 1 : kStatWorkers, stop,
              [&](std::size_t, const Stop& worker_stop) {
                for (std::size_t i = next++; i < candidates.size(); i = next++) {
                  finished[i] = store.stat(manifest_key(candidates[i]), worker_stop).has_value();
                }
              });
  std::vector<std::string> fulls;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (finished[i] != 0) fulls.push_back(std::move(candidates[i]));
  }
  return fulls;
}

}  // namespace holdfast::collection
