#pragma once

#include <memory>

#include "storage/s3_store.h"

namespace holdfast::storage {

/// A bucket as it was at `parts.access.versions_at`: of each object the newest version that is not
/// newer, unless that is a delete marker. For reading only. list_directories() also gives
/// directories that were empty at that moment. Needs the rights s3:ListBucketVersions and
/// s3:GetObjectVersion.
std::unique_ptr<ObjectStore> open_s3_versions(const S3Options& options, S3Parts parts);

}  // namespace holdfast::storage
