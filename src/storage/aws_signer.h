#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "net/http.h"

namespace holdfast::storage {

struct AwsKeys {
  std::string access_key_id;
  std::string secret_access_key;
  std::string session_token;  ///< empty for long-lived keys
};

using QueryParameters = std::vector<std::pair<std::string, std::string>>;

/// What a Signature Version 4 is made over.
struct AwsRequest {
  net::HttpMethod method = net::HttpMethod::Get;
  std::string host;  ///< with the port, as in the Host header
  std::string path;  ///< percent-encoded, with the leading "/"
  QueryParameters query = {};
  net::HttpHeaders headers = {};
  std::string body_sha256;  ///< lower-case hexadecimal
};

struct AwsScope {
  std::string region;
  std::string service;
};

/// The headers to send: those of the request, then x-amz-date, x-amz-content-sha256 (for S3),
/// x-amz-security-token where there is one, and Authorization.
/// Source: AWS, "Create a signed AWS API request" (Signature Version 4).
net::HttpHeaders sign_aws_request(const AwsRequest& request, const AwsKeys& keys,
                                  const AwsScope& scope, Time now);

/// "a=1&b=%2F", sorted by name as the signature wants it.
std::string canonical_query(QueryParameters query);

/// Lower-case hexadecimal SHA-256, as body_sha256.
std::string sha256_hex(ByteView bytes);

}  // namespace holdfast::storage
