#pragma once

#include <string>
#include <string_view>

namespace holdfast::storage {

/// Which service's bucket (or container) a statement of SingleStore's names.
enum class BucketKind { S3, Gcs, Azure };

/// A bucket as SingleStore's statements name it.
struct Bucket {
  BucketKind kind = BucketKind::S3;
  std::string path;         ///< "bucket/prefix"
  std::string config;       ///< the JSON object of CONFIG; empty: none
  std::string credentials;  ///< that of CREDENTIALS; empty: none
};

/// The storage URI that stands for it, without the last "/" of the path. Where no credentials are
/// given the daemon's own are used (AUTH=implicit). Throws kInvalidParameterValue for what is no
/// JSON object and for keys that are not known; kFeatureNotSupported for keys that ask for what no
/// driver does. Messages name keys, never values.
/// Source of the keys: SingleStore 9.1, BACKUP DATABASE.
std::string bucket_uri(const Bucket& bucket);

}  // namespace holdfast::storage
