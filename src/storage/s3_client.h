#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <pugixml.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "net/http.h"
#include "storage/aws_credentials.h"
#include "storage/aws_signer.h"
#include "storage/listing.h"
#include "storage/s3_store.h"

namespace holdfast::storage {

/// Signed requests to one S3 bucket: finds out its region, adopts the store's clock, renews keys.
/// Thread-safe.
class S3Client {
 public:
  struct Call {
    net::HttpMethod method = net::HttpMethod::Get;
    std::string key = {};  ///< full; empty: the bucket
    QueryParameters query = {};
    net::HttpHeaders headers = {};
    ByteView body = {};
    std::string body_sha256 = {};  ///< empty: of no bytes
    std::optional<MutableByteView> into = std::nullopt;
  };

  S3Client(const S3Options& options, S3Parts parts);

  const S3Options& options() const { return options_; }
  const KeyPlace& place() const { return place_; }
  const std::string& description() const { return parts_.description; }
  const StoreAccess& access() const { return parts_.access; }
  /// By the store's clock, as far as it is known.
  Time now() const;

  /// The answer, whatever its status. Throws for failures of the connection, and with Retry::Safe
  /// where the next try has other keys, or another time.
  net::HttpResponse send(const Call& call, const Stop& stop);

  /// One of the two kinds of list that S3 has.
  struct ListKind {
    std::string_view root;  ///< name of the answer's root element
    /// What an answer says to go on with, and the parameters that take it; the first is never
    /// empty.
    std::vector<std::pair<const char*, const char*>> next;
    bool encoded = false;  ///< what it says is percent-encoded
  };
  /// Calls `visit` for each page of the names that begin with `full_prefix`, until it returns
  /// false.
  void list(const ListKind& kind, const std::string& full_prefix, const QueryParameters& query,
            const std::function<bool(const pugi::xml_node& page, ListPages& pages)>& visit,
            const Stop& stop);

  static bool no_bucket(const net::HttpResponse& response);
  static Error failure(std::string_view verb, const std::string& key,
                       const net::HttpResponse& response);
  /// Undoes encoding-type=url, in which "+" is a space.
  static std::string decode(std::string_view text);

 private:
  std::string endpoint_of(const std::string& region) const;
  std::string region();
  bool learn_region(const net::HttpResponse& response, const std::string& used);
  void check_keys_and_clock(const net::HttpResponse& response, const AwsKeys& keys);

  const S3Options options_;
  const KeyPlace place_;
  const S3Parts parts_;
  AwsCredentialCache credentials_;
  /// What is to be added to this machine's clock to have the store's.
  std::atomic<std::int64_t> clock_offset_us_ = 0;
  Mutex mutex_;
  std::string region_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::storage
