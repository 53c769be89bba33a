#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "collection/incremental_location.h"
#include "sql/options.h"
#include "sql/statement_runner.h"
#include "sql/statements.h"
#include "statements/find_backup.h"
#include "statements/stores.h"
#include "storage/store_access.h"

namespace holdfast::statements {

/// The collection that a statement names, and WITH incremental_location. As a job may keep it.
struct CollectionPlace {
  std::string uri;
  std::string incremental_uri = {};  ///< empty: none was given
  /// incremental_location = '': incrementals that are in another place are left out knowingly.
  bool without_hidden = false;
};

/// Throws as single_uri() for several collection URIs, and kInvalidParameterValue for a number of
/// incremental URIs that is another.
CollectionPlace collection_place(const sql::Uris& uris, const sql::Options& options,
                                 std::string_view statement, sql::SessionContext& session);

/// A collection that was opened for a user.
struct OpenCollection {
  std::unique_ptr<storage::ObjectStore> store;
  collection::LocatedStore* located = nullptr;  ///< a part of `store`; null: no other place
};

/// Opens both places, after check_storage_use(). Clears `incremental_uri` where it is the place
/// that incrementals have anyway.
OpenCollection open_collection(Stores& stores, CollectionPlace& place, sql::SessionContext& session,
                               const storage::StoreAccess& access = {});

/// Who it is that messages about places are for.
collection::Viewer viewer_of(sql::SessionContext& session);

/// What find_backup() is to do with layers that `place` does not show.
HiddenLayers hidden_layers(const CollectionPlace& place, sql::SessionContext& session);

}  // namespace holdfast::statements
