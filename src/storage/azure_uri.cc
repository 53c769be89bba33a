#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "crypto/base64.h"
#include "storage/azure_store.h"
#include "storage/uri_names.h"
#include "storage/uri_parameters.h"

namespace holdfast::storage {

namespace {

/// Source: Azure SDK for Go, azcore/cloud and the earlier autorest environments, whose names
/// CockroachDB took over.
constexpr std::array kClouds = {
    AzureCloud{"AZUREPUBLICCLOUD", "core.windows.net", "vault.azure.net",
               "https://login.microsoftonline.com"},
    AzureCloud{"AZUREUSGOVERNMENTCLOUD", "core.usgovcloudapi.net", "vault.usgovcloudapi.net",
               "https://login.microsoftonline.us"},
    AzureCloud{"AZURECHINACLOUD", "core.chinacloudapi.cn", "vault.azure.cn",
               "https://login.chinacloudapi.cn"},
    AzureCloud{"AZUREGERMANCLOUD", "core.cloudapi.de", "vault.microsoftazure.de",
               "https://login.microsoftonline.de"},
};

/// Source: Azure, "Naming rules and restrictions for Azure resources" (Microsoft.Storage); the
/// names with "$" are those of containers that Azure makes itself.
void check_names(const AzureOptions& options) {
  check_name(options.account,
             {.what = "AZURE_ACCOUNT_NAME", .extra = "", .shortest = 3, .longest = 24});
  for (const std::string_view own : {"$root", "$web", "$logs"}) {
    if (options.container == own) return;
  }
  check_name(options.container, {.what = "the container of the azure URI", .extra = "-"});
}

AzureAuthOptions parse_auth(UriParameters& parameters, std::string_view authority) {
  const std::string auth = parameters.take("AUTH");
  std::string key = parameters.take("AZURE_ACCOUNT_KEY");
  std::string sas = parameters.take("AZURE_SAS_TOKEN");
  AzureAuthOptions options = {.tenant_id = parameters.take("AZURE_TENANT_ID"),
                              .client_id = parameters.take("AZURE_CLIENT_ID"),
                              .client_secret = parameters.take("AZURE_CLIENT_SECRET"),
                              .authority = std::string(authority)};
  // Azure's own libraries take the same characters (azidentity, validTenantID).
  if (!options.tenant_id.empty()) {
    check_name(
        options.tenant_id,
        {.what = "AZURE_TENANT_ID", .extra = "-.ABCDEFGHIJKLMNOPQRSTUVWXYZ", .longest = 255});
  }
  const bool client = !options.client_secret.empty() || !options.tenant_id.empty();
  if (static_cast<int>(!key.empty()) + static_cast<int>(!sas.empty()) + static_cast<int>(client) >
      1) {
    throw invalid_parameter(
        "AZURE_ACCOUNT_KEY, AZURE_SAS_TOKEN and AZURE_CLIENT_SECRET exclude each other");
  }
  if (auth == "implicit") {
    if (!key.empty() || !sas.empty() || client) {
      throw invalid_parameter(
          "AUTH is set to 'implicit', but secrets are given in the storage URI");
    }
    options.kind = AzureAuthKind::Implicit;
    return options;
  }
  if (!auth.empty() && auth != "specified") {
    throw invalid_parameter(fmt::format("unsupported value {} for AUTH", auth));
  }
  if (!key.empty()) {
    // A "+" that nobody encoded has become a space on its way.
    std::replace(key.begin(), key.end(), ' ', '+');
    const auto bytes = crypto::from_base64(key);
    if (!bytes || bytes->empty()) throw invalid_parameter("AZURE_ACCOUNT_KEY is not a base64 text");
    options.kind = AzureAuthKind::AccountKey;
    options.account_key = *bytes;
    return options;
  }
  if (!sas.empty()) {
    options.kind = AzureAuthKind::SharedAccessSignature;
    options.sas_token = sas.starts_with('?') ? sas.substr(1) : sas;
    return options;
  }
  if (options.client_id.empty() || options.client_secret.empty() || options.tenant_id.empty()) {
    throw invalid_parameter("the azure URI holds no credentials")
        .hint(
            "Give AZURE_ACCOUNT_KEY; or AZURE_SAS_TOKEN; or AZURE_CLIENT_ID, AZURE_CLIENT_SECRET "
            "and AZURE_TENANT_ID; or AUTH=implicit.");
  }
  options.kind = AzureAuthKind::ClientSecret;
  return options;
}

}  // namespace

AzureCloud find_azure_cloud(std::string name) {
  if (name.empty()) return kClouds.front();
  std::transform(name.begin(), name.end(), name.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  const auto* const cloud = std::find_if(kClouds.begin(), kClouds.end(),
                                         [&](const AzureCloud& one) { return one.name == name; });
  if (cloud == kClouds.end()) {
    throw invalid_parameter(fmt::format("unsupported value {} for AZURE_ENVIRONMENT", name))
        .hint(
            "Supported values are AZUREPUBLICCLOUD, AZUREUSGOVERNMENTCLOUD, AZURECHINACLOUD and "
            "AZUREGERMANCLOUD.");
  }
  return *cloud;
}

AzureOptions parse_azure_uri(const StorageUri& uri, std::string_view shown) {
  if (uri.host.empty()) throw invalid_parameter("the azure URI must name a container");
  UriParameters parameters(uri, "azure");
  AzureOptions options = {.container = uri.host,
                          .prefix = normalize_path(uri.path, shown, "the container"),
                          .account = parameters.take("AZURE_ACCOUNT_NAME")};
  // The wording of CockroachDB (reference, section 6).
  if (options.account.empty())
    throw invalid_parameter("azure uri missing \"AZURE_ACCOUNT_NAME\" parameter");
  check_names(options);
  const AzureCloud cloud = find_azure_cloud(parameters.take("AZURE_ENVIRONMENT"));
  options.endpoint = parameters.take("AZURE_ENDPOINT");
  while (options.endpoint.ends_with('/')) options.endpoint.pop_back();
  // What stands before an "@" would be shown with the endpoint.
  if (!options.endpoint.empty() &&
      ((!options.endpoint.starts_with("https://") && !options.endpoint.starts_with("http://")) ||
       options.endpoint.find_first_of("@?#") != std::string::npos)) {
    throw invalid_parameter(
        "AZURE_ENDPOINT must be a URL, such as https://account.blob.example.com");
  }
  options.own_endpoint = !options.endpoint.empty();
  if (!options.own_endpoint) {
    options.endpoint = fmt::format("https://{}.blob.{}", options.account, cloud.storage_suffix);
  }
  options.auth = parse_auth(parameters, cloud.authority);
  parameters.finish();
  return options;
}

}  // namespace holdfast::storage
