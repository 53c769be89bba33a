#pragma once

#include <string_view>
#include <utility>

#include "base/error.h"
#include "postgres/lsn.h"

namespace holdfast::backup {

/// Why a WAL archive is over: what no later try changes. Whatever else fails is waited for.
class ArchiveEnded : public Error {
 public:
  explicit ArchiveEnded(Error error) : Error(std::move(error)) {}
};

/// WAL from `from` on is not, and will not be, in the archive.
ArchiveEnded archive_broken(std::string_view why, postgres::Lsn from);

/// The server, on the timeline of the archive, has another history than what is archived: what it
/// writes cannot stand behind that, nor in its place.
ArchiveEnded server_was_set_back(std::string_view what_tells, postgres::Lsn from);

/// Whether the archive is over. A refusal of the storage's never is, whatever its SQLSTATE: rights
/// and mounts come back, and the WAL that waits has a bound of its own. Nor is one of PostgreSQL's.
/// An object that is there with another content is: objects are never replaced.
bool ends_archive(const Error& error);

}  // namespace holdfast::backup
