#pragma once

#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/stop.h"
#include "net/http.h"
#include "storage/aws_signer.h"
#include "storage/cloud_environment.h"

namespace holdfast::storage {

enum class AzureAuthKind { AccountKey, SharedAccessSignature, ClientSecret, Implicit };

struct AzureAuthOptions {
  AzureAuthKind kind = AzureAuthKind::AccountKey;
  Bytes account_key = {};
  std::string sas_token = {};  ///< a query without the leading "?"
  std::string tenant_id = {};
  std::string client_id = {};  ///< for a managed identity: which one, or empty
  std::string client_secret = {};
  std::string authority = {};                          ///< "https://login.microsoftonline.com"
  std::string resource = "https://storage.azure.com";  ///< what tokens are for
};

/// One of Azure's clouds.
struct AzureCloud {
  std::string_view name;
  std::string_view storage_suffix;
  std::string_view vault_suffix;
  std::string_view authority;
};
/// By AZURE_ENVIRONMENT; the public one for an empty name. Throws kInvalidParameterValue.
AzureCloud find_azure_cloud(std::string name);

/// What a request looks like before it carries its proof.
struct AzureRequest {
  net::HttpMethod method = net::HttpMethod::Get;
  std::string path;  ///< percent-encoded, as in the URL, with the leading "/"
  QueryParameters query = {};
  net::HttpHeaders headers = {};
  std::uint64_t body_bytes = 0;
};

/// "SharedKey account:signature". Source: Azure Storage REST documentation, "Authorize with Shared
/// Key", for version 2015-02-21 and later.
std::string azure_shared_key(const AzureRequest& request, const std::string& account,
                             ByteView account_key);

/// Adds what proves who asks: headers, or query parameters.
class AzureAuth {
 public:
  virtual ~AzureAuth() = default;
  virtual void authorize(AzureRequest& request, const Stop& stop) = 0;
  /// The server refused the proof as out of date. False when there is no other to be had.
  virtual bool reject() = 0;
};

std::unique_ptr<AzureAuth> make_azure_auth(const AzureAuthOptions& options,
                                           const std::string& account,
                                           const CloudEnvironment& environment);

}  // namespace holdfast::storage
