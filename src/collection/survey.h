#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/stop.h"
#include "manifest.pb.h"
#include "storage/object_store.h"

namespace holdfast::collection {

/// A full and the finished layers on it, as far as their names and manifests tell.
struct SurveyedChain {
  std::string full = {};
  /// Without their lists of files and database objects; the full first, then by name. Empty when
  /// `unreadable`.
  std::vector<proto::Manifest> layers = {};
  /// Why a manifest could not be read, or that layers are in a place that the store does not show;
  /// empty: all could.
  std::string unreadable = {};
  std::string missing = {};              ///< an object that the full needs and that is not there
  std::uint64_t bytes = 0;               ///< of all objects in its layers' directories
  std::vector<std::int64_t> locks = {};  ///< jobs that have locks there, also in unfinished layers
  std::vector<std::int64_t> marks = {};  ///< jobs that are deleting it
  std::optional<Time> newest_sign = {};  ///< of life of those locks' jobs, as in UnfinishedLayer

  /// When the full began, and the newest moment that a layer restores to.
  Time start() const;
  Time end() const;
  /// The full at least can be restored, as far as sizes tell.
  bool restorable() const { return unreadable.empty() && missing.empty(); }
};

/// A directory for a layer that has objects but no manifest.
struct UnfinishedLayer {
  std::string directory = {};
  std::uint64_t bytes = 0;
  std::vector<std::int64_t> locks = {};
  /// The newest moment that names tell somebody worked in it: of the directory, or a checkpoint.
  Time newest_sign{};
  /// Somebody began to delete the chain that it belongs to, and the full's manifest is gone.
  bool of_deleted_chain = false;
};

struct Survey {
  std::vector<SurveyedChain> chains;  ///< oldest first
  std::vector<UnfinishedLayer> unfinished;
};

/// Tells what is in a collection. Manifests are read once: nothing overwrites them. For one thread.
class Surveyor {
 public:
  explicit Surveyor(storage::ObjectStore& store) : store_(store) {}

  /// Everything. A layer is finished if it was when its directory was listed.
  Survey survey(const Stop& stop);
  /// One chain as it is now; absent when it has no full any more. The WAL that the full needs is
  /// looked for too.
  std::optional<SurveyedChain> chain(const std::string& full, const Stop& stop);

 private:
  void look_into(const std::string& full, Survey& survey, const Stop& stop);
  void read_layers(const std::vector<std::string>& directories, SurveyedChain& chain,
                   const Stop& stop);
  std::string first_missing_wal(const proto::Manifest& layer, const Stop& stop);

  storage::ObjectStore& store_;
  std::map<std::string, proto::Manifest> known_;
};

/// Removes the objects, several at once, and gives the number of those that the storage keeps.
std::uint64_t remove_objects(storage::ObjectStore& store,
                             const std::vector<storage::ObjectKey>& keys, const Stop& stop);

}  // namespace holdfast::collection
