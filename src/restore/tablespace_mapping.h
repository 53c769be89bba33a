#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "restore_job.pb.h"

namespace holdfast::restore {

/// Reads the value of WITH tablespace_mapping: "16400=/new/path,/old/path=/new/path". What stands
/// before "=" is a tablespace's OID or its location at backup time; a backslash takes the next
/// character as it is. Throws kInvalidParameterValue.
std::vector<proto::TablespaceMapping> parse_tablespace_mapping(std::string_view text);

/// Whether the entry is about the tablespace.
bool maps(const proto::TablespaceMapping& entry, std::uint32_t oid, std::string_view location);

}  // namespace holdfast::restore
