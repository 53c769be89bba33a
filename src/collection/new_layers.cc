#include "collection/new_layers.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "collection/chain.h"
#include "collection/collection.h"

namespace holdfast::collection {

namespace {

/// A job takes its lock some time after its layer got its name: the day may have ended in between,
/// and another layer may have been named meanwhile.
constexpr std::size_t kDaysOfNewLayers = 2;

}  // namespace

std::optional<std::string> NewLayers::find(const Stop& stop) const {
  for (const std::string& full : list_full_directories(store_, stop)) {
    if (is_new(full, stop)) return full;
  }
  for (const std::string& full : list_fulls_with_incrementals(store_, stop)) {
    const std::string above = incrementals_of(full);
    std::vector<std::string> days = store_.list_directories(above, stop);  // sorted
    const std::size_t older = days.size() - std::min(days.size(), kDaysOfNewLayers);
    for (std::size_t day = older; day < days.size(); ++day) {
      for (const std::string& time : store_.list_directories(above + "/" + days[day], stop)) {
        std::string layer = above + "/" + days[day] + "/" + time;
        if (parse_incremental_directory(layer) && is_new(layer, stop)) return layer;
      }
    }
  }
  return std::nullopt;
}

bool NewLayers::is_new(const std::string& directory, const Stop& stop) const {
  if (known_.contains(directory)) return false;
  // Another collection may lie in a directory of this name.
  return store_.stat(manifest_key(directory), stop).has_value() ||
         !look_at_unfinished(store_, directory, stop).jobs.empty();
}

}  // namespace holdfast::collection
