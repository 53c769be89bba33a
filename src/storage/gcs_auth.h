#pragma once

#include <memory>
#include <string>
#include <vector>

#include "storage/access_token.h"
#include "storage/cloud_environment.h"
#include "storage/uri_parameters.h"

namespace holdfast::storage {

/// Which server the `token_uri` of a credentials file may name.
enum class GcsTokenServer {
  Google,  ///< the file comes from an SQL user: else it would be a way to reach any host
  Any,     ///< an administrator named the file, or an endpoint beside it
};

struct GcsAuthOptions {
  bool implicit = false;
  std::string credentials_json = {};                     ///< of a service account, or of a user
  GcsTokenServer token_server = GcsTokenServer::Google;  ///< for credentials_json
  std::string bearer_token = {};
  /// Service accounts to act as: the last is the target, earlier ones lead to it.
  std::vector<std::string> roles = {};
  /// What a token of a role is for.
  std::string scope = "https://www.googleapis.com/auth/devstorage.read_write";
};

/// Takes AUTH, CREDENTIALS, BEARER_TOKEN and ASSUME_ROLE. Throws kInvalidParameterValue; `missing`
/// is the message when there are no credentials.
GcsAuthOptions parse_gcs_auth(UriParameters& parameters, const std::string& missing);

/// Where access tokens for Google Cloud Storage come from.
std::unique_ptr<AccessTokenCache> make_gcs_token(const GcsAuthOptions& options,
                                                 const CloudEnvironment& environment);

/// The token for a credentials file: "service_account" (a signed assertion) or "authorized_user" (a
/// refresh token). Throws kFeatureNotSupported for other types, kInvalidParameterValue when the
/// file names a server that it may not.
AccessToken gcs_token_of_file(const std::string& credentials_json, GcsTokenServer server,
                              const CloudEnvironment& environment, const Stop& stop);

}  // namespace holdfast::storage
