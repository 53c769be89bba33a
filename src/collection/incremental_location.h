#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/mutex.h"
#include "base/stop.h"
#include "storage/object_store.h"

/// Incremental layers in another place than their full: BACKUP … WITH incremental_location. What a
/// collection has as "incrementals/<full>/…" the other place has as "<full>/…", and either may have
/// layers of one chain. docs/formats/collection.md.
namespace holdfast::collection {

/// Whom a place is shown to. Where an external connection leads is for administrators; others see
/// its name, as the statement had it.
enum class Viewer { Administrator, Other };

/// A collection together with the other place, as if both were one. Only fulls that were tied to
/// that place by claim() have their layers there: anything else in it belongs to others, and is
/// neither seen nor touched.
class LocatedStore final : public storage::ObjectStore {
 public:
  /// Neither of them has keys: what is encrypted is encrypted above this.
  /// `elsewhere_uri` is the other place's URI as given, for claim(); only external:// ones are
  /// kept. Throws kInvalidParameterValue when both are the same place.
  LocatedStore(std::unique_ptr<storage::ObjectStore> collection,
               std::unique_ptr<storage::ObjectStore> elsewhere, std::string_view elsewhere_uri);
  ~LocatedStore() override;

  /// Whether the other place is where the collection has its incrementals anyway.
  static bool is_usual_place(const storage::ObjectStore& collection,
                             const storage::ObjectStore& elsewhere);

  /// Ties the full to the other place, so that its next layers go there. Fine when it is already.
  /// Throws kInvalidParameterValue when it was tied to another one, kObjectInUse when the place has
  /// layers of another full of this name. OnlyCheck writes nothing. Nothing can untie them: whoever
  /// takes the claim must know before that the layer belongs on that full.
  enum class Claim { Take, OnlyCheck };
  void claim(const std::string& full, Claim what, Viewer viewer, const Stop& stop);

  storage::PutResult put(const storage::ObjectKey& key, ByteView bytes, storage::PutMode mode,
                         const Stop& stop) override;
  bool get_into(const storage::ObjectKey& key, std::uint64_t offset, MutableByteView into,
                const Stop& stop) override;
  /// INCREMENTAL-LOCATION is absent for fulls whose other place is this one: see
  /// hidden_incrementals(). list() has it.
  std::optional<storage::ObjectInfo> stat(const storage::ObjectKey& key, const Stop& stop) override;
  void list(const storage::ObjectKey& prefix,
            const std::function<void(const storage::ObjectInfo&)>& visit,
            const Stop& stop) override;
  std::vector<std::string> list_directories(const storage::ObjectKey& prefix,
                                            const Stop& stop) override;
  void remove(const storage::ObjectKey& key, const Stop& stop) override;
  std::string description() const override { return collection_->description(); }

 private:
  class Tied;

  /// As whoever gave the place knows it.
  std::string place() const;

  const std::unique_ptr<storage::ObjectStore> collection_;
  const std::unique_ptr<storage::ObjectStore> elsewhere_;
  const std::string given_;  ///< external://…, or empty
  const std::unique_ptr<Tied> tied_;
};

/// "2026/11/20-223000.00/INCREMENTAL-LOCATION" and, as a LocatedStore names what is in the other
/// place, "incrementals/2026/11/20-223000.00/FULL-LOCATION". They go last when a chain is removed.
storage::ObjectKey incremental_location_key(std::string_view full);
storage::ObjectKey full_location_key(std::string_view full);

/// Where the chain of `full` has layers that `store` does not show, for messages ("in …"); absent
/// when it shows all.
std::optional<std::string> hidden_incrementals(storage::ObjectStore& store, std::string_view full,
                                               Viewer viewer, const Stop& stop);
/// For what must not be done without them; `place` is hidden_incrementals()'s.
Error incremental_location_missing(std::string_view full, std::string_view place);
/// Throws it when there are such.
void require_no_hidden_incrementals(storage::ObjectStore& store, std::string_view full,
                                    Viewer viewer, const Stop& stop);

/// Whether an object below "<full>/" belongs to an incremental layer of a full in another
/// collection, for which this one is the other place.
bool is_of_other_collection(std::string_view full, std::string_view key);

/// The store of a job: `open` gives that of a URI. An empty `incremental_uri` is none.
template <typename Open>
std::unique_ptr<storage::ObjectStore> open_located(const std::string& collection_uri,
                                                   const std::string& incremental_uri,
                                                   const Open& open) {
  std::unique_ptr<storage::ObjectStore> store = open(collection_uri);
  if (incremental_uri.empty()) return store;
  return std::make_unique<LocatedStore>(std::move(store), open(incremental_uri), incremental_uri);
}

}  // namespace holdfast::collection
