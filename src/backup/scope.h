#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/stop.h"
#include "manifest.pb.h"
#include "postgres/connection.h"
#include "postgres/wal_scope.h"

namespace holdfast::backup {

/// What a backup of databases or tables is to hold: of each database its OID, name, and tables.
using Scope = google::protobuf::RepeatedPtrField<collection::proto::ScopeDatabase>;

/// Which files a scope consists of, as the server's catalogs say at one moment.
struct ScopeListing {
  struct Tables {
    /// pg_class OID to relfilenode: catalogs, the tables with their partitions, indexes, TOAST, and
    /// the sequences that they own. Those without storage are listed with 0.
    std::map<std::uint32_t, std::uint32_t> relations;
    /// Of these, the catalogs' OIDs.
    std::set<std::uint32_t> catalogs;
    /// Users' types of the tables' columns, and what those are made of.
    std::set<std::uint32_t> types;
    /// Files of catalogs that hold values of any table's rows: not wanted.
    std::set<std::uint32_t> blank_files;
  };
  std::map<std::uint32_t, Tables> tables;  ///< by database; none for whole databases
};

/// When a listing is made, for the words of errors.
enum class ScopeMoment { Start, End };

/// Why BACKUP DATABASE and BACKUP TABLE with revision history are refused on a standby.
Error no_scoped_history_on_standby();

/// Looks a scope up. Throws kInvalidCatalogName, kUndefinedTable when something of it is not there
/// (any more). `connect` is changed only in its database.
ScopeListing list_scope(const postgres::ConnectOptions& connect, const Scope& scope,
                        ScopeMoment moment, const Stop& stop);

/// Throws kInvalidParameterValue when `base`, which a layer with this scope is to continue, holds
/// something that is still there and that the scope leaves out.
void require_nothing_left_out(const collection::proto::Manifest& base, const Scope& scope,
                              const postgres::ConnectOptions& connect, const Stop& stop);

/// The files of `scope` that are in one of the listings.
postgres::WalScope wal_scope(const Scope& scope, const ScopeListing& one,
                             const ScopeListing& other);

/// Of the objects that the manifest lists, only those in scope stay: of single tables they
/// themselves, what belongs to them, their types, schemas and databases.
void keep_objects_in_scope(const Scope& scope, const ScopeListing& listing,
                           collection::proto::Manifest& manifest);

/// Relations' files, as database and relfilenode.
using DatabaseFiles = std::set<std::pair<std::uint32_t, std::uint32_t>>;

/// What of a scope's files a backup has, for the check at its end.
struct ScopeCheck {
  const ScopeListing& end;    ///< right before the backup's stop
  const ScopeListing& after;  ///< after it
  DatabaseFiles copied;
  DatabaseFiles created;  ///< those that the backup's WAL makes from nothing
  DatabaseFiles dropped;  ///< those that a committed transaction in it removed
  /// Relations, as database and OID, that a commit behind the listing at the end redefined: what
  /// came and went meanwhile is in neither listing.
  std::set<std::pair<std::uint32_t, std::uint32_t>> redefined;
};
/// Throws kObjectNotInPrerequisiteState, which a later attempt may do without, when a relation of
/// the scope got a new file at the wrong moment: it may be that the backup lacks it.
void require_all_files(const ScopeCheck& check);

/// Writes what is known only at the end of a backup into its manifest's scope.
void store_scope(const Scope& scope, const ScopeListing& listing,
                 collection::proto::Manifest& manifest);

}  // namespace holdfast::backup
