#include "statements/check_connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "base/error.h"
#include "base/mutex.h"
#include "base/worker_pool.h"
#include "crypto/sealer.h"

namespace holdfast::statements {

namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::uint64_t kMiB = 1024 * 1024;
// Source: CockroachDB 25.4, CHECK EXTERNAL CONNECTION.
constexpr std::uint64_t kDefaultTransfer = 32 * kMiB;
constexpr std::uint64_t kObjectBytes = 8 * kMiB;
constexpr std::int64_t kMostWorkers = 64;

struct Unit {
  std::string_view name;
  double factor;
};
constexpr Unit kSizes[] = {{"", 1},
                           {"B", 1},
                           {"kB", 1024},
                           {"KiB", 1024},
                           {"MB", 1024.0 * 1024},
                           {"MiB", 1024.0 * 1024},
                           {"GB", 1024.0 * 1024 * 1024},
                           {"GiB", 1024.0 * 1024 * 1024}};
constexpr Unit kTimes[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60'000}, {"min", 60'000}, {"h", 3'600'000}};

/// "32MiB" or "1.5 h" as a number of the smallest unit, at least 1.
template <std::size_t n>
std::uint64_t parse_amount(std::string_view option, const std::string& text, const Unit (&units)[n],
                           std::string_view hint) {
  double number = 0;
  const auto [end, failure] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  const auto* known =
      std::ranges::find_if(units, [&](const Unit& candidate) { return candidate.name == unit; });
  // The upper bound keeps sums of these far from overflow.
  if (failure != std::errc() || known == std::end(units) || !(number * known->factor >= 1) ||
      number * known->factor > 1e15) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("invalid value for option {}: \"{}\"", option, text))
        .hint(std::string(hint));
  }
  return static_cast<std::uint64_t>(number * known->factor);
}

/// What the workers share.
class Meter {
 public:
  explicit Meter(const CheckLimits& limits) : limits_(limits), started_(SteadyClock::now()) {}

  /// How large the next object may be; 0 when it is enough.
  std::uint64_t claim() {
    MutexLock lock(mutex_);
    // However short the time: without one object there would be no answer.
    const bool time_is_over = limits_.time && SteadyClock::now() - started_ >= *limits_.time;
    if (claimed_ > 0 && time_is_over) return 0;
    const std::uint64_t left =
        limits_.bytes ? *limits_.bytes - claimed_ : std::numeric_limits<std::uint64_t>::max();
    const std::uint64_t size = std::min(left, kObjectBytes);
    claimed_ += size;
    return size;
  }
  void written(std::uint64_t bytes, SteadyClock::duration took) {
    MutexLock lock(mutex_);
    written_ += bytes;
    writing_ += took;
  }
  void read(std::uint64_t bytes, SteadyClock::duration took) {
    MutexLock lock(mutex_);
    read_ += bytes;
    reading_ += took;
  }
  void not_removed() {
    MutexLock lock(mutex_);
    can_delete_ = false;
  }

  CheckResult result(std::size_t workers) {
    MutexLock lock(mutex_);
    const auto speed = [&](std::uint64_t bytes, SteadyClock::duration took) {
      // Workers work at the same time, so their times count once.
      const double seconds =
          std::chrono::duration<double>(took).count() / static_cast<double>(workers);
      return seconds > 0 ? static_cast<std::uint64_t>(static_cast<double>(bytes) / seconds) : 0;
    };
    return {.error = std::nullopt,
            .transferred = read_,
            .read_bytes_per_second = speed(read_, reading_),
            .write_bytes_per_second = speed(written_, writing_),
            .can_delete = can_delete_ && written_ > 0};
  }

 private:
  const CheckLimits limits_;
  const SteadyClock::time_point started_;
  Mutex mutex_;
  std::uint64_t claimed_ HF_GUARDED_BY(mutex_) = 0;
  std::uint64_t written_ HF_GUARDED_BY(mutex_) = 0;
  std::uint64_t read_ HF_GUARDED_BY(mutex_) = 0;
  SteadyClock::duration writing_ HF_GUARDED_BY(mutex_){};
  SteadyClock::duration reading_ HF_GUARDED_BY(mutex_){};
  bool can_delete_ HF_GUARDED_BY(mutex_) = true;
};

void work(storage::ObjectStore& store, const std::string& directory, std::size_t worker,
          Meter& meter, const Stop& stop) {
  Bytes back;
  for (std::uint64_t number = 0;; ++number) {
    const std::uint64_t size = meter.claim();
    if (size == 0) return;
    // Random, so that nothing on the way can compress it or answer from elsewhere.
    const Bytes bytes = crypto::random_bytes(size);
    const storage::ObjectKey key = fmt::format("{}/{}-{}", directory, worker, number);
    SteadyClock::time_point start = SteadyClock::now();
    store.put(key, bytes, storage::PutMode::OnlyIfAbsent, stop);
    meter.written(size, SteadyClock::now() - start);

    back.resize(size);
    start = SteadyClock::now();
    const bool found = store.get_into(key, 0, back, stop);
    const SteadyClock::duration took = SteadyClock::now() - start;
    if (!found || back != bytes) {
      throw Error(sqlstate::kDataCorrupted,
                  fmt::format("object \"{}\" does not read back as it was written", key));
    }
    meter.read(size, took);
    try {
      store.remove(key, stop);
    } catch (const Error&) {
      meter.not_removed();
    }
  }
}

}  // namespace

CheckLimits check_limits(const sql::Options& options) {
  CheckLimits limits;
  if (const auto transfer = options.text("transfer")) {
    limits.bytes = parse_amount("transfer", *transfer, kSizes, "Give a size, as in '32MiB'.");
  }
  if (const auto time = options.text("time")) {
    limits.time = std::chrono::milliseconds(
        parse_amount("time", *time, kTimes, "Give a duration, as in '30s' or '2m'."));
  }
  if (!limits.bytes && !limits.time) limits.bytes = kDefaultTransfer;
  if (const auto workers = options.integer("concurrently")) {
    if (*workers < 1 || *workers > kMostWorkers) {
      throw Error(sqlstate::kInvalidParameterValue,
                  fmt::format("invalid value for option concurrently: {}", *workers))
          .hint(fmt::format("Give a number from 1 to {}.", kMostWorkers));
    }
    limits.workers = static_cast<std::size_t>(*workers);
  }
  return limits;
}

CheckResult check_connection(storage::ObjectStore& store, const CheckLimits& limits,
                             const Stop& stop) {
  const std::string directory = fmt::format("holdfast-check-{}", to_hex(crypto::random_bytes(8)));
  Meter meter(limits);
  try {
    run_workers(limits.workers, stop, [&](std::size_t worker, const Stop& inner) {
      work(store, directory, worker, meter, inner);
    });
  } catch (const Error& error) {
    CheckResult result = meter.result(limits.workers);
    result.error = error.message();
    return result;
  }
  return meter.result(limits.workers);
}

std::string show_bytes(std::uint64_t bytes) {
  constexpr std::string_view kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", value, value < 10 && unit > 0 ? 1 : 0, kUnits[unit]);
}

}  // namespace holdfast::statements
