#pragma once

#include <string>
#include <vector>

#include "base/stop.h"
#include "postgres/connection.h"

namespace holdfast::restore {

/// What users made in a cluster: each database but postgres and the templates ("bank"), and the
/// objects in postgres and template1 ("postgres.public.accounts"). What initdb made and what
/// belongs to an extension does not count. `connect` is changed only in its database. Throws the
/// server's errors.
std::vector<std::string> user_objects(const postgres::ConnectOptions& connect, const Stop& stop);

/// Throws CockroachDB's "full cluster restore can only be run on a cluster with no tables or
/// databases but found …" (kObjectNotInPrerequisiteState) unless `objects` is empty.
void require_no_user_objects(const std::vector<std::string>& objects);

}  // namespace holdfast::restore
