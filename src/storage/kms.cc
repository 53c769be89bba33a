#include "storage/kms.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "crypto/base64.h"
#include "net/http_client.h"
#include "storage/kms_internal.h"

namespace holdfast::storage {

namespace {

constexpr unsigned kKmsAttempts = 5;
constexpr unsigned kBriefAttempts = 3;
constexpr std::chrono::milliseconds kFirstDelay{200};
constexpr std::chrono::milliseconds kLongestDelay{5000};
constexpr std::uint64_t kLongestAnswer = 1U << 20;

using OpenKms = std::unique_ptr<KmsKey> (*)(const StorageUri&, const StorageConfig&, KmsParts);
struct Service {
  std::string_view scheme;
  OpenKms open;
};
constexpr std::array kServices = {
    Service{"aws", open_aws_kms},         Service{"aws-kms", open_aws_kms},
    Service{"gs", open_gcp_kms},          Service{"gcp-kms", open_gcp_kms},
    Service{"azure-kms", open_azure_kms},
};

/// Reads {"__type": "…#NotFoundException", "message": …} of AWS, or {"error": …} of the others.
ServiceError read_error(ByteView body) {
  const auto document = nlohmann::json::parse(as_text(body), nullptr, false);
  if (document.is_object() && document.contains("__type") && document["__type"].is_string()) {
    const auto type = document["__type"].get<std::string>();
    std::string message;
    for (const char* name : {"message", "Message"}) {
      const auto found = document.find(name);
      if (found != document.end() && found->is_string()) message = found->get<std::string>();
    }
    return {.code = type.substr(type.find('#') + 1), .message = std::move(message)};
  }
  if (document.is_object() && document.contains("error") && document["error"].is_object()) {
    const auto& error = document["error"];
    const auto text = [&](const char* name) {
      const auto found = error.find(name);
      return found != error.end() && found->is_string() ? found->get<std::string>() : std::string();
    };
    // Google has "status", Azure "code".
    return {.code = text("status").empty() ? text("code") : text("status"),
            .message = text("message")};
  }
  return parse_json_error(body);
}

}  // namespace

std::unique_ptr<KmsKey> open_kms(std::string_view text, const StorageConfig& config) {
  const StorageUri uri = parse_uri(text);
  const auto* const service = std::ranges::find(kServices, uri.scheme, &Service::scheme);
  if (service == kServices.end()) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("unsupported KMS scheme: \"{}\"", uri.scheme))
        .hint("Use aws:///…, gs:///… or azure-kms:///….");
  }
  KmsParts parts = {
      .http = std::make_unique<net::HttpClient>(net::HttpClientOptions{.ca_file = config.ca_file}),
      .environment = {}};
  parts.environment = CloudEnvironment::of_process(*parts.http);
  return service->open(uri, config, std::move(parts));
}

std::string kms_path(const StorageUri& uri) {
  std::string path = uri.path;
  while (path.starts_with('/')) path.erase(0, 1);
  if (!path.empty()) return path;
  // The wording of CockroachDB (reference, section 4.3).
  throw Error(sqlstate::kInvalidParameterValue,
              "path component of the KMS cannot be empty; must contain the Customer Managed Key");
}

nlohmann::json ask_kms(net::HttpTransport& http,
                       const std::function<net::HttpRequest(const std::string& body)>& make,
                       const nlohmann::json& question, std::string_view action, const Stop& stop) {
  const std::string body = question.dump();
  for (unsigned attempt = 1;; ++attempt) {
    try {
      net::HttpRequest request = make(body);
      request.body = {as_bytes(body)};
      request.body_limit = kLongestAnswer;
      const net::HttpResponse response = http.send(request, stop);
      if (!response.success()) throw http_error(action, response, read_error(response.body));
      auto answer = nlohmann::json::parse(as_text(response.body), nullptr, false);
      if (answer.is_object()) return answer;
      throw Error(sqlstate::kIoError, fmt::format("{}: the answer is not JSON", action));
    } catch (const Error& error) {
      const unsigned attempts = error.retry() == Retry::Briefly ? kBriefAttempts : kKmsAttempts;
      if (!error.retry_is_safe() || attempt >= attempts) throw;
      stop.sleep(std::clamp(error.retry_after(), kFirstDelay * (1 << attempt), kLongestDelay));
    }
  }
}

Bytes kms_bytes(const nlohmann::json& answer, const char* name, std::string_view action) {
  const auto found = answer.find(name);
  if (found != answer.end() && found->is_string()) {
    auto bytes = crypto::from_base64(found->get_ref<const std::string&>());
    if (bytes && !bytes->empty()) return std::move(*bytes);
  }
  throw Error(sqlstate::kDataCorrupted, fmt::format("{}: the answer lacks \"{}\"", action, name));
}

}  // namespace holdfast::storage
