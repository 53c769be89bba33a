#include "jobs/pause_points.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <utility>

#include "base/error.h"

namespace holdfast::jobs {

namespace {

constexpr std::pair<std::string_view, PauseAction> kActions[] = {{"pause", PauseAction::Pause},
                                                                 {"kill", PauseAction::Kill},
                                                                 {"fail", PauseAction::Fail},
                                                                 {"retry", PauseAction::Retry},
                                                                 {"stall", PauseAction::Stall}};

[[noreturn]] void refuse(std::string_view part) {
  throw Error(sqlstate::kConfigFileError, fmt::format("invalid pause point \"{}\"", part))
      .hint("Write name=action[:file][@n]; actions are pause, kill, fail, retry and stall.");
}

/// Cuts `text` at the first `separator`; gives what stood after it, and leaves what stood before.
std::optional<std::string_view> cut(std::string_view& text, char separator) {
  const std::size_t at = text.find(separator);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view after = text.substr(at + 1);
  text = text.substr(0, at);
  return after;
}

}  // namespace

PausePoints::PausePoints(std::string_view text) {
  std::optional<std::string_view> rest = text;
  while (rest && !rest->empty()) {
    std::string_view name = *rest;
    rest = cut(name, ',');
    const std::string_view whole = name;
    const auto right = cut(name, '=');
    if (!right || name.empty()) refuse(whole);
    std::string_view action = *right;
    Point point;
    point.name = name;
    if (const auto count = cut(action, '@')) {
      const char* end = count->data() + count->size();
      const auto read = std::from_chars(count->data(), end, point.at);
      if (*count == "*") {
        point.at = 0;
      } else if (read.ec != std::errc() || read.ptr != end || point.at == 0) {
        refuse(whole);
      }
    }
    if (const auto file = cut(action, ':')) point.hit.file = *file;
    bool known = false;
    for (const auto& [word, value] : kActions) {
      if (word != action) continue;
      point.hit.action = value;
      known = true;
    }
    if (!known || (!point.hit.file.empty() && point.hit.action != PauseAction::Stall)) {
      refuse(whole);
    }
    points_.push_back(std::move(point));
  }
}

std::optional<PauseHit> PausePoints::reach(std::string_view name) {
  if (points_.empty()) return std::nullopt;
  MutexLock lock(mutex_);
  std::optional<PauseHit> hit;
  for (Point& point : points_) {
    if (point.name != name) continue;
    // Every entry of the name counts, also when another one acts.
    ++point.reached;
    if (!hit && (point.at == 0 || point.reached == point.at)) hit = point.hit;
  }
  return hit;
}

}  // namespace holdfast::jobs
