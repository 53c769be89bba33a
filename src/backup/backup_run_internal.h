#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "backup_job.pb.h"
#include "base/clock.h"
#include "collection/frame.h"
#include "collection/pack.h"

namespace holdfast::backup {

/// What the specification asks for, or the default.
collection::Compression compression_of(const proto::BackupJobSpec& spec);
collection::BackupUuid new_uuid();
/// Since 1970, as manifests have it.
std::int64_t microseconds(Time time);
/// Below which the packs of a layer are.
std::string data_prefix(std::string_view directory);

}  // namespace holdfast::backup
