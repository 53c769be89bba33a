#pragma once

#include <string>

namespace holdfast::restore {

/// Whether a link in pg_tblspc of `data_directory` leads to the location.
bool is_tablespace_of(const std::string& location, const std::string& data_directory);

/// Of a restore into the instance, whose data directory is `live_directory`: throws
/// kObjectNotInPrerequisiteState unless a tablespace's version directory is absent or may be put
/// aside. It must be the instance's own. When there is no pg_tblspc any more, nobody can tell: then
/// it may be any but that of a server that runs on this host.
void require_replaceable_tablespace(const std::string& version_directory,
                                    const std::string& live_directory);

}  // namespace holdfast::restore
