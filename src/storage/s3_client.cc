#include "storage/s3_client.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "storage/http_errors.h"
#include "storage/percent.h"
#include "storage/uri_names.h"

namespace holdfast::storage {

namespace {

/// Buckets without a region of their own are there (GetBucketLocation).
constexpr std::string_view kFirstRegion = "us-east-1";

}  // namespace

S3Client::S3Client(const S3Options& options, S3Parts parts)
    : options_(options),
      place_(options.prefix),
      parts_(std::move(parts)),
      credentials_(
          make_aws_credentials(options.auth, options.region, options.endpoint, parts_.environment),
          *parts_.environment.clock),
      region_(options.region.empty() ? std::string(kFirstRegion) : options.region) {}

Time S3Client::now() const {
  return parts_.environment.clock->now() + std::chrono::microseconds(clock_offset_us_);
}

net::HttpResponse S3Client::send(const Call& call, const Stop& stop) {
  for (bool again = false;; again = true) {
    const std::string region = this->region();
    const AwsKeys keys = credentials_.get(stop);
    const std::string endpoint = endpoint_of(region);
    std::string path = "/";
    if (options_.path_style) path += percent_encode(options_.bucket) + "/";
    path += percent_encode_path(call.key);
    if (call.key.empty() && options_.path_style) path.pop_back();
    const std::string query = canonical_query(call.query);
    const net::HttpHeaders headers = sign_aws_request(
        {.method = call.method,
         .host = endpoint.substr(endpoint.find("://") + 3),
         .path = path,
         .query = call.query,
         .headers = call.headers,
         .body_sha256 = call.body_sha256.empty() ? sha256_hex({}) : call.body_sha256},
        keys, {.region = region, .service = "s3"},
        parts_.environment.clock->now() + std::chrono::microseconds(clock_offset_us_));
    net::HttpRequest request = {.method = call.method,
                                .url = endpoint + path + (query.empty() ? "" : "?") + query,
                                .headers = headers,
                                .into = call.into};
    if (!call.body.empty()) request.body.push_back(call.body);
    net::HttpResponse response = parts_.http->send(request, stop);
    if (response.success()) return response;
    if (!again && learn_region(response, region)) continue;
    check_keys_and_clock(response, keys);
    return response;
  }
}

std::string S3Client::endpoint_of(const std::string& region) const {
  const std::string bucket = options_.path_style ? "" : options_.bucket + ".";
  if (options_.endpoint.empty()) {
    return fmt::format("https://{}s3.{}.amazonaws.com{}", bucket, region,
                       region.starts_with("cn-") ? ".cn" : "");
  }
  const std::size_t host = options_.endpoint.find("://") + 3;
  return options_.endpoint.substr(0, host) + bucket + options_.endpoint.substr(host);
}

std::string S3Client::region() {
  const MutexLock lock(mutex_);
  return region_;
}

/// Amazon tells in its refusal where a bucket is. True when that is news.
bool S3Client::learn_region(const net::HttpResponse& response, const std::string& used) {
  if (!options_.region.empty() || (response.status != 301 && response.status != 307 &&
                                   response.status != 400 && response.status != 403)) {
    return false;
  }
  std::string told(response.header("x-amz-bucket-region"));
  if (told.empty()) {
    pugi::xml_document document;
    document.load_buffer(response.body.data(), response.body.size());
    told = document.child("Error").child_value("Region");
  }
  if (told.empty() || told == used) return false;
  check_name(told, {.what = "the region that the store answers", .extra = "-"});
  const MutexLock lock(mutex_);
  region_ = told;
  return true;
}

/// Throws with Retry::Safe where the next try has other keys, or another time.
void S3Client::check_keys_and_clock(const net::HttpResponse& response, const AwsKeys& keys) {
  const ServiceError said = parse_xml_error(response.body);
  if (said.code.starts_with("ExpiredToken") || said.code == "TokenRefreshRequired") {
    Error error(sqlstate::kInsufficientPrivilege, "the storage credentials have expired");
    if (credentials_.reject(keys)) error.retry(Retry::Safe);
    throw error;
  }
  // An answer to HEAD has no body to say why.
  const auto theirs = parse_http_date(response.header("date"));
  if (!theirs || (said.code != "RequestTimeTooSkewed" && response.status != 403)) return;
  const auto offset = *theirs - parts_.environment.clock->now();
  const std::chrono::microseconds known(clock_offset_us_);
  constexpr std::chrono::minutes kNoticed{5};
  if (offset - known < kNoticed && known - offset < kNoticed) return;
  clock_offset_us_ = std::chrono::duration_cast<std::chrono::microseconds>(offset).count();
  log::warning("the clocks of this machine and of the store differ by {} s",
               std::chrono::duration_cast<std::chrono::seconds>(offset).count());
  throw Error(sqlstate::kIoError, "the store's clock and this machine's differ").retry(Retry::Safe);
}

bool S3Client::no_bucket(const net::HttpResponse& response) {
  return parse_xml_error(response.body).code == "NoSuchBucket";
}

Error S3Client::failure(std::string_view verb, const std::string& key,
                        const net::HttpResponse& response) {
  return http_error(fmt::format("could not {} object \"{}\"", verb, key), response,
                    parse_xml_error(response.body));
}

void S3Client::list(const ListKind& kind, const std::string& full_prefix,
                    const QueryParameters& query,
                    const std::function<bool(const pugi::xml_node&, ListPages&)>& visit,
                    const Stop& stop) {
  ListPages pages;
  QueryParameters continued;
  const std::string what = fmt::format("\"{}\"", full_prefix);
  do {
    QueryParameters all = query;
    all.insert(all.end(), {{"encoding-type", "url"}, {"prefix", full_prefix}});
    all.insert(all.end(), continued.begin(), continued.end());
    const net::HttpResponse response = send({.query = std::move(all)}, stop);
    if (!response.success()) throw failure("list", full_prefix, response);
    pugi::xml_document document;
    const bool parsed = document.load_buffer(response.body.data(), response.body.size());
    const pugi::xml_node page = document.child(std::string(kind.root).c_str());
    if (!parsed || !page) {
      throw Error(sqlstate::kIoError,
                  fmt::format("could not list {}: the answer is not a list", what))
          .retry(Retry::Safe);
    }
    if (!visit(page, pages) || !page.child("IsTruncated").text().as_bool()) return;
    continued.clear();
    std::string token;
    for (const auto& [element, parameter] : kind.next) {
      const std::string text = page.child_value(element);
      if (!text.empty()) continued.emplace_back(parameter, kind.encoded ? decode(text) : text);
      token += text + "\n";
    }
    if (continued.empty() || continued.front().first != kind.next.front().second) {
      // The end of such a list is missing, and what is in it would look absent.
      throw Error(sqlstate::kIoError,
                  fmt::format("could not list {}: the server does not say how to go on", what));
    }
    pages.next(token, what);
  } while (true);
}

std::string S3Client::decode(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::optional<Bytes> byte;
    if (text[i] == '%') byte = from_hex(text.substr(i + 1, 2));
    if (byte && byte->size() == 1) {
      decoded.push_back(static_cast<char>(byte->front()));
      i += 2;
    } else {
      decoded.push_back(text[i] == '+' ? ' ' : text[i]);
    }
  }
  return decoded;
}

}  // namespace holdfast::storage
