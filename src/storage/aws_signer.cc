#include "storage/aws_signer.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "crypto/digest.h"
#include "storage/percent.h"
#include "storage/uri_names.h"

namespace holdfast::storage {

namespace {

/// "20130524T000000Z".
std::string amz_date(Time time) {
  const std::time_t seconds =
      std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count();
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  return fmt::format("{:%Y%m%dT%H%M%SZ}", utc);
}

crypto::Sha256 signing_key(const AwsKeys& keys, std::string_view date, const AwsScope& scope) {
  const std::string start = "AWS4" + keys.secret_access_key;
  const crypto::Sha256 date_key = crypto::hmac_sha256(as_bytes(start), as_bytes(date));
  const crypto::Sha256 region_key = crypto::hmac_sha256(date_key, as_bytes(scope.region));
  const crypto::Sha256 service_key = crypto::hmac_sha256(region_key, as_bytes(scope.service));
  return crypto::hmac_sha256(service_key, as_bytes("aws4_request"));
}

}  // namespace

std::string sha256_hex(ByteView bytes) { return to_hex(crypto::sha256(bytes)); }

std::string canonical_query(QueryParameters query) {
  for (auto& [name, value] : query) {
    name = percent_encode(name);
    value = percent_encode(value);
  }
  std::sort(query.begin(), query.end());
  std::string text;
  for (const auto& [name, value] : query) {
    text += fmt::format("{}{}={}", text.empty() ? "" : "&", name, value);
  }
  return text;
}

net::HttpHeaders sign_aws_request(const AwsRequest& request, const AwsKeys& keys,
                                  const AwsScope& scope, Time now) {
  const std::string timestamp = amz_date(now);
  const std::string date = timestamp.substr(0, 8);
  net::HttpHeaders sent = request.headers;
  sent.emplace_back("x-amz-date", timestamp);
  if (scope.service == "s3") sent.emplace_back("x-amz-content-sha256", request.body_sha256);
  if (!keys.session_token.empty()) sent.emplace_back("x-amz-security-token", keys.session_token);

  net::HttpHeaders signed_headers = {{"host", request.host}};
  for (const auto& [name, value] : sent) signed_headers.emplace_back(lower_case(name), value);
  std::sort(signed_headers.begin(), signed_headers.end());
  std::string canonical_headers;
  std::string names;
  for (const auto& [name, value] : signed_headers) {
    canonical_headers += fmt::format("{}:{}\n", name, value);
    names += (names.empty() ? "" : ";") + name;
  }

  const std::string canonical_request =
      fmt::format("{}\n{}\n{}\n{}\n{}\n{}", net::to_string(request.method), request.path,
                  canonical_query(request.query), canonical_headers, names, request.body_sha256);
  const std::string place = fmt::format("{}/{}/{}/aws4_request", date, scope.region, scope.service);
  const std::string to_sign = fmt::format("AWS4-HMAC-SHA256\n{}\n{}\n{}", timestamp, place,
                                          sha256_hex(as_bytes(canonical_request)));
  const std::string signature =
      to_hex(crypto::hmac_sha256(signing_key(keys, date, scope), as_bytes(to_sign)));
  sent.emplace_back("Authorization",
                    fmt::format("AWS4-HMAC-SHA256 Credential={}/{},SignedHeaders={},Signature={}",
                                keys.access_key_id, place, names, signature));
  return sent;
}

}  // namespace holdfast::storage
