#pragma once

#include <memory>
#include <string>
#include <vector>

#include "storage/access_token.h"
#include "storage/cloud_environment.h"

namespace holdfast::storage {

struct GcsAuthOptions {
  bool implicit = false;
  std::string credentials_json = {};  ///< of a service account, or of a user
  std::string bearer_token = {};
  /// Service accounts to act as: the last is the target, earlier ones lead to it.
  std::vector<std::string> roles = {};
};

/// Where access tokens for Google Cloud Storage come from.
std::unique_ptr<AccessTokenCache> make_gcs_token(const GcsAuthOptions& options,
                                                 const CloudEnvironment& environment);

/// The token for a credentials file: "service_account" (a signed assertion) or "authorized_user" (a
/// refresh token). Throws kFeatureNotSupported for other types.
AccessToken gcs_token_of_file(const std::string& credentials_json,
                              const CloudEnvironment& environment, const Stop& stop);

}  // namespace holdfast::storage
