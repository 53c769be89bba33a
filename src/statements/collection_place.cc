#include "statements/collection_place.h"

#include <utility>

#include "base/error.h"
#include "statements/option_checks.h"
#include "statements/privileges.h"

namespace holdfast::statements {

CollectionPlace collection_place(const sql::Uris& uris, const sql::Options& options,
                                 std::string_view statement, sql::SessionContext& session) {
  CollectionPlace place{.uri = own_uri(single_uri(uris, statement), session)};
  const auto elsewhere = options.uris("incremental_location");
  if (elsewhere.empty()) return place;
  if (elsewhere.size() != uris.size()) {
    // CockroachDB's words (reference, section 3.4).
    throw Error(sqlstate::kInvalidParameterValue,
                "the incremental_location option must contain the same number of locality aware "
                "URIs as the full backup destination");
  }
  if (elsewhere.front().empty()) {
    place.without_hidden = true;
  } else {
    place.incremental_uri = own_uri(elsewhere.front(), session);
  }
  return place;
}

OpenCollection open_collection(Stores& stores, CollectionPlace& place, sql::SessionContext& session,
                               const storage::StoreAccess& access) {
  OpenCollection opened{.store = open_for_user(stores, place.uri, session, access)};
  if (place.incremental_uri.empty()) return opened;
  auto elsewhere = open_for_user(stores, place.incremental_uri, session, access);
  if (collection::LocatedStore::is_usual_place(*opened.store, *elsewhere)) {
    place.incremental_uri.clear();
    return opened;
  }
  auto located = std::make_unique<collection::LocatedStore>(
      std::move(opened.store), std::move(elsewhere), place.incremental_uri);
  opened.located = located.get();
  opened.store = std::move(located);
  return opened;
}

collection::Viewer viewer_of(sql::SessionContext& session) {
  return is_administrator(session) ? collection::Viewer::Administrator : collection::Viewer::Other;
}

HiddenLayers hidden_layers(const CollectionPlace& place, sql::SessionContext& session) {
  return {.what = place.without_hidden ? HiddenLayers::LeaveOut : HiddenLayers::Refuse,
          .viewer = viewer_of(session)};
}

}  // namespace holdfast::statements
