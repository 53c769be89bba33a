#include "jobs/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace holdfast::jobs {

namespace {

constexpr std::chrono::seconds kRateWindow{10};
// Only a job that has succeeded shows 1: the manifest comes after the last byte.
constexpr double kHighestFraction = 0.999;

}  // namespace

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array<std::string_view, 5> kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 1024) return fmt::format("{} bytes", bytes);
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  while (value >= 1023.5 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return value < 9.95 ? fmt::format("{:.1f} {}", value, kUnits[unit])
                      : fmt::format("{:.0f} {}", value, kUnits[unit]);
}

std::string format_duration(std::chrono::seconds duration) {
  const auto seconds = duration.count();
  if (seconds < 60) return fmt::format("{} s", seconds);
  if (seconds < 3600) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
  return fmt::format("{} h {} min", seconds / 3600, seconds % 3600 / 60);
}

void ProgressMeter::report(const Progress& progress) {
  if (progress.phase != progress_.phase || progress.bytes_done < progress_.bytes_done) {
    samples_.clear();
  }
  progress_ = progress;
  if (progress.bytes_total == 0) return;
  const double reached =
      static_cast<double>(progress.bytes_done) / static_cast<double>(progress.bytes_total);
  fraction_ = std::max(fraction_, std::min(reached, kHighestFraction));
}

double ProgressMeter::rate(Moment now) {
  samples_.push_back({now, progress_.bytes_done});
  while (samples_.size() > 2 && now - samples_.front().when > kRateWindow) samples_.pop_front();
  const std::chrono::duration<double> passed = now - samples_.front().when;
  if (passed.count() <= 0) return 0;
  return static_cast<double>(progress_.bytes_done - samples_.front().bytes) / passed.count();
}

std::string ProgressMeter::text(Moment now) {
  if (progress_.bytes_total == 0 && progress_.bytes_done == 0) return progress_.phase;
  const double bytes_per_second = rate(now);
  std::string text = fmt::format("{}: {}", progress_.phase, format_bytes(progress_.bytes_done));
  if (progress_.bytes_total != 0) {
    text += fmt::format(" of {}", format_bytes(progress_.bytes_total));
  }
  if (bytes_per_second < 1) return text;
  text += fmt::format(", {}/s", format_bytes(static_cast<std::uint64_t>(bytes_per_second)));
  if (progress_.bytes_total > progress_.bytes_done) {
    const double left =
        static_cast<double>(progress_.bytes_total - progress_.bytes_done) / bytes_per_second;
    // A rate close to zero would promise centuries.
    if (left < 1e6) {
      text += fmt::format(", {} left",
                          format_duration(std::chrono::seconds(static_cast<long>(left + 0.5))));
    }
  }
  return text;
}

}  // namespace holdfast::jobs
