#include "storage/s3_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <pugixml.hpp>

#include "base/error.h"
#include "base/log.h"
#include "crypto/base64.h"
#include "crypto/digest.h"
#include "storage/http_errors.h"
#include "storage/keys.h"
#include "storage/listing.h"
#include "storage/percent.h"
#include "storage/ranged_get.h"
#include "storage/uri_names.h"

namespace holdfast::storage {

namespace {

/// Buckets without a region of their own are there (GetBucketLocation).
constexpr std::string_view kFirstRegion = "us-east-1";

/// An object of at most this size may be put twice to learn what the store does.
constexpr std::size_t kSmallObject = 64U << 10;

/// What is known of the store's handling of If-None-Match.
enum class Conditional { Unknown, Honoured, Ignored };

class S3Store : public ObjectStore {
 public:
  S3Store(const S3Options& options, S3Parts parts)
      : options_(options),
        place_(options.prefix),
        parts_(std::move(parts)),
        credentials_(make_aws_credentials(options.auth, options.region, options.endpoint,
                                          parts_.environment),
                     *parts_.environment.clock),
        region_(options.region.empty() ? std::string(kFirstRegion) : options.region),
        conditional_(options.endpoint.empty() ? Conditional::Honoured : Conditional::Unknown) {}

  PutResult put(const ObjectKey& key, ByteView bytes, PutMode mode, const Stop& stop) override {
    stop.check();
    check_key(key);
    check_size(key, bytes);
    if (mode == PutMode::Overwrite) return put_object(key, bytes, mode, stop);
    if (conditional_ == Conditional::Honoured) return put_object(key, bytes, mode, stop);
    // Not yet known, or known not to be honoured: never overwrite on the strength of it.
    if (stat(key, stop)) return PutResult::Taken;
    if (put_object(key, bytes, mode, stop) == PutResult::Taken) {
      conditional_ = Conditional::Honoured;
      return PutResult::Taken;
    }
    if (conditional_ == Conditional::Unknown && bytes.size() <= kSmallObject) {
      learn_conditional(key, bytes, stop);
    }
    return PutResult::Stored;
  }

  bool get_into(const ObjectKey& key, std::uint64_t offset, MutableByteView into,
                const Stop& stop) override {
    stop.check();
    check_key(key);
    if (into.empty()) return look_up_end(key, offset, stop);
    const net::HttpResponse response =
        send({.method = net::HttpMethod::Get,
              .key = place_.full(key),
              .headers = {{"Range", range_header(offset, into.size())}},
              .into = into},
             stop);
    if (response.status == 404 && !no_bucket(response)) return false;
    if (response.status == 416) throw too_short(key, offset, into.size());
    if (!response.success()) throw failure("get", key, response);
    check_range(response, key, offset, into.size());
    return true;
  }

  std::optional<ObjectInfo> stat(const ObjectKey& key, const Stop& stop) override {
    stop.check();
    check_key(key);
    const net::HttpResponse response =
        send({.method = net::HttpMethod::Head, .key = place_.full(key)}, stop);
    if (response.status == 404) return std::nullopt;
    if (!response.success()) throw failure("look up", key, response);
    return ObjectInfo{.key = key, .size = content_length(response, key)};
  }

  void list(const ObjectKey& prefix, const std::function<void(const ObjectInfo&)>& visit,
            const Stop& stop) override {
    list_pages(prefix, "", stop, [&](const pugi::xml_node& page, ListPages& pages) {
      for (const pugi::xml_node object : page.children("Contents")) {
        const std::string name = decode(object.child_value("Key"));
        // A name that ends in "/" is a folder that somebody made with another tool.
        if (name.ends_with('/') || !pages.is_new(name)) continue;
        visit({.key = place_.own(name), .size = object.child("Size").text().as_ullong()});
      }
    });
  }

  std::vector<std::string> list_directories(const ObjectKey& prefix, const Stop& stop) override {
    std::vector<std::string> names;
    const std::size_t start = place_.full_prefix(prefix).size();
    list_pages(prefix, "/", stop, [&](const pugi::xml_node& page, ListPages& pages) {
      for (const pugi::xml_node common : page.children("CommonPrefixes")) {
        const std::string name = decode(common.child_value("Prefix"));
        if (name.size() > start + 1 && pages.is_new(name)) {
          names.push_back(name.substr(start, name.size() - start - 1));
        }
      }
    });
    std::sort(names.begin(), names.end());
    return names;
  }

  void remove(const ObjectKey& key, const Stop& stop) override {
    stop.check();
    check_key(key);
    const net::HttpResponse response =
        send({.method = net::HttpMethod::Delete, .key = place_.full(key)}, stop);
    if (!response.success() && (response.status != 404 || no_bucket(response))) {
      throw failure("remove", key, response);
    }
  }

  std::string description() const override { return parts_.description; }

 private:
  struct Call {
    net::HttpMethod method = net::HttpMethod::Get;
    std::string key = {};  ///< full; empty: the bucket
    QueryParameters query = {};
    net::HttpHeaders headers = {};
    ByteView body = {};
    std::string body_sha256 = {};  ///< empty: of no bytes
    std::optional<MutableByteView> into = std::nullopt;
  };

  PutResult put_object(const ObjectKey& key, ByteView bytes, PutMode mode, const Stop& stop) {
    const crypto::Sha256 digest = crypto::sha256(bytes);
    net::HttpHeaders headers = {{"Content-Type", "application/octet-stream"}};
    if (mode == PutMode::OnlyIfAbsent && conditional_ != Conditional::Ignored) {
      headers.emplace_back("If-None-Match", "*");
    }
    if (!options_.skip_checksum) {
      headers.emplace_back("x-amz-checksum-sha256", crypto::to_base64(digest));
    }
    if (!options_.storage_class.empty()) {
      headers.emplace_back("x-amz-storage-class", options_.storage_class);
    }
    if (!options_.encryption_mode.empty()) {
      headers.emplace_back("x-amz-server-side-encryption", options_.encryption_mode);
    }
    if (!options_.kms_key_id.empty()) {
      headers.emplace_back("x-amz-server-side-encryption-aws-kms-key-id", options_.kms_key_id);
    }
    const net::HttpResponse response = send({.method = net::HttpMethod::Put,
                                             .key = place_.full(key),
                                             .headers = std::move(headers),
                                             .body = bytes,
                                             .body_sha256 = to_hex(digest)},
                                            stop);
    if (response.status == 412) return PutResult::Taken;
    if (response.success()) return PutResult::Stored;
    const bool refused_header = response.status == 501 && mode == PutMode::OnlyIfAbsent &&
                                conditional_ == Conditional::Unknown;
    if (!refused_header) throw failure("put", key, response);
    ignore_conditional();
    return put_object(key, bytes, mode, stop);
  }

  /// Puts what was just stored once more: whatever the store does, the object stays the same.
  void learn_conditional(const ObjectKey& key, ByteView bytes, const Stop& stop) {
    if (put_object(key, bytes, PutMode::OnlyIfAbsent, stop) == PutResult::Taken) {
      conditional_ = Conditional::Honoured;
    } else {
      ignore_conditional();
    }
  }
  void ignore_conditional() {
    conditional_ = Conditional::Ignored;
    log::warning(
        "the store at {} does not honour If-None-Match; objects are looked up before they are put",
        options_.endpoint);
  }

  /// For a get of no bytes.
  bool look_up_end(const ObjectKey& key, std::uint64_t offset, const Stop& stop) {
    const auto info = stat(key, stop);
    if (info && info->size < offset) throw too_short(key, offset, 0);
    return info.has_value();
  }

  template <typename Visit>
  void list_pages(const ObjectKey& prefix, const std::string& delimiter, const Stop& stop,
                  const Visit& visit) {
    stop.check();
    check_prefix(prefix);
    ListPages pages;
    std::string token;
    do {
      QueryParameters query = {
          {"list-type", "2"}, {"encoding-type", "url"}, {"prefix", place_.full_prefix(prefix)}};
      if (!delimiter.empty()) query.emplace_back("delimiter", delimiter);
      if (!token.empty()) query.emplace_back("continuation-token", token);
      const net::HttpResponse response = send({.query = std::move(query)}, stop);
      if (!response.success()) throw failure("list", prefix, response);
      pugi::xml_document document;
      const bool parsed = document.load_buffer(response.body.data(), response.body.size());
      const pugi::xml_node page = document.child("ListBucketResult");
      if (!parsed || !page) {
        throw Error(sqlstate::kIoError,
                    fmt::format("could not list \"{}\": the answer is not a list", prefix))
            .retry(Retry::Safe);
      }
      visit(page, pages);
      token = page.child_value("NextContinuationToken");
      const bool more = page.child("IsTruncated").text().as_bool();
      if (more && token.empty()) {
        // The end of such a list is missing, and what is in it would look absent.
        throw Error(
            sqlstate::kIoError,
            fmt::format("could not list \"{}\": the server does not say how to go on", prefix));
      }
      if (!more) token.clear();
      if (more) pages.next(token, fmt::format("\"{}\"", prefix));
    } while (!token.empty());
  }

  /// Undoes encoding-type=url, in which "+" is a space.
  static std::string decode(std::string_view text) {
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

  net::HttpResponse send(const Call& call, const Stop& stop) {
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

  std::string endpoint_of(const std::string& region) const {
    const std::string bucket = options_.path_style ? "" : options_.bucket + ".";
    if (options_.endpoint.empty()) {
      return fmt::format("https://{}s3.{}.amazonaws.com{}", bucket, region,
                         region.starts_with("cn-") ? ".cn" : "");
    }
    const std::size_t host = options_.endpoint.find("://") + 3;
    return options_.endpoint.substr(0, host) + bucket + options_.endpoint.substr(host);
  }

  std::string region() {
    const MutexLock lock(mutex_);
    return region_;
  }

  /// Amazon tells in its refusal where a bucket is. True when that is news.
  bool learn_region(const net::HttpResponse& response, const std::string& used) {
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
  void check_keys_and_clock(const net::HttpResponse& response, const AwsKeys& keys) {
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
    throw Error(sqlstate::kIoError, "the store's clock and this machine's differ")
        .retry(Retry::Safe);
  }

  static bool no_bucket(const net::HttpResponse& response) {
    return parse_xml_error(response.body).code == "NoSuchBucket";
  }

  static Error failure(std::string_view verb, const std::string& key,
                       const net::HttpResponse& response) {
    return http_error(fmt::format("could not {} object \"{}\"", verb, key), response,
                      parse_xml_error(response.body));
  }

  const S3Options options_;
  const KeyPlace place_;
  const S3Parts parts_;
  AwsCredentialCache credentials_;
  /// What is to be added to this machine's clock to have the store's.
  std::atomic<std::int64_t> clock_offset_us_ = 0;
  Mutex mutex_;
  std::string region_ HF_GUARDED_BY(mutex_);
  std::atomic<Conditional> conditional_;
};

}  // namespace

std::unique_ptr<ObjectStore> open_s3_store(const S3Options& options, S3Parts parts) {
  return std::make_unique<S3Store>(options, std::move(parts));
}

}  // namespace holdfast::storage
