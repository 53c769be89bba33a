#include "storage/s3_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <pugixml.hpp>

#include "base/error.h"
#include "base/log.h"
#include "crypto/base64.h"
#include "crypto/digest.h"
#include "storage/applied_lock.h"
#include "storage/http_errors.h"
#include "storage/keys.h"
#include "storage/listing.h"
#include "storage/ranged_get.h"
#include "storage/s3_client.h"
#include "storage/s3_versions_internal.h"

namespace holdfast::storage {

namespace {

/// An object of at most this size may be put twice to learn what the store does.
constexpr std::size_t kSmallObject = 64U << 10;

/// What is known of the store's handling of If-None-Match.
enum class Conditional { Unknown, Honoured, Ignored };

class S3Store : public ObjectStore {
 public:
  S3Store(const S3Options& options, S3Parts parts)
      : client_(options, std::move(parts)),
        conditional_(options.endpoint.empty() ? Conditional::Honoured : Conditional::Unknown),
        locks_(options.endpoint.empty()) {}

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
        client_.send({.method = net::HttpMethod::Get,
                      .key = place().full(key),
                      .headers = {{"Range", range_header(offset, into.size())}},
                      .into = into},
                     stop);
    if (response.status == 404 && !S3Client::no_bucket(response)) return false;
    if (response.status == 416) throw too_short(key, offset, into.size());
    if (!response.success()) throw S3Client::failure("get", key, response);
    check_range(response, key, offset, into.size());
    return true;
  }

  std::optional<ObjectInfo> stat(const ObjectKey& key, const Stop& stop) override {
    stop.check();
    check_key(key);
    const net::HttpResponse response =
        client_.send({.method = net::HttpMethod::Head, .key = place().full(key)}, stop);
    if (response.status == 404) return std::nullopt;
    if (!response.success()) throw S3Client::failure("look up", key, response);
    return ObjectInfo{.key = key, .size = content_length(response, key)};
  }

  void list(const ObjectKey& prefix, const std::function<void(const ObjectInfo&)>& visit,
            const Stop& stop) override {
    list_pages(prefix, "", stop, [&](const pugi::xml_node& page, ListPages& pages) {
      for (const pugi::xml_node object : page.children("Contents")) {
        const std::string name = S3Client::decode(object.child_value("Key"));
        // A name that ends in "/" is a folder that somebody made with another tool.
        if (name.ends_with('/') || !pages.is_new(name)) continue;
        visit({.key = place().own(name), .size = object.child("Size").text().as_ullong()});
      }
    });
  }

  std::vector<std::string> list_directories(const ObjectKey& prefix, const Stop& stop) override {
    std::vector<std::string> names;
    const std::size_t start = place().full_prefix(prefix).size();
    list_pages(prefix, "/", stop, [&](const pugi::xml_node& page, ListPages& pages) {
      for (const pugi::xml_node common : page.children("CommonPrefixes")) {
        const std::string name = S3Client::decode(common.child_value("Prefix"));
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
        client_.send({.method = net::HttpMethod::Delete, .key = place().full(key)}, stop);
    if (!response.success() && (response.status != 404 || S3Client::no_bucket(response))) {
      throw S3Client::failure("remove", key, response);
    }
  }

  std::string description() const override { return client_.description(); }

 private:
  PutResult put_object(const ObjectKey& key, ByteView bytes, PutMode mode, const Stop& stop) {
    const crypto::Sha256 digest = crypto::sha256(bytes);
    net::HttpHeaders headers = {{"Content-Type", "application/octet-stream"}};
    if (mode == PutMode::OnlyIfAbsent && conditional_ != Conditional::Ignored) {
      headers.emplace_back("If-None-Match", "*");
    }
    if (!options().skip_checksum) {
      headers.emplace_back("x-amz-checksum-sha256", crypto::to_base64(digest));
    }
    const auto& lock = client_.access().lock;
    const bool locked = lock && lock->is_for(key);
    const Time until = locked ? client_.now() + lock->retain_for : Time();
    if (locked) add_retention(*lock, until, bytes, headers);
    if (!options().storage_class.empty()) {
      headers.emplace_back("x-amz-storage-class", options().storage_class);
    }
    if (!options().encryption_mode.empty()) {
      headers.emplace_back("x-amz-server-side-encryption", options().encryption_mode);
    }
    if (!options().kms_key_id.empty()) {
      headers.emplace_back("x-amz-server-side-encryption-aws-kms-key-id", options().kms_key_id);
    }
    const net::HttpResponse response = client_.send({.method = net::HttpMethod::Put,
                                                     .key = place().full(key),
                                                     .headers = std::move(headers),
                                                     .body = bytes,
                                                     .body_sha256 = to_hex(digest)},
                                                    stop);
    if (response.status == 412) return PutResult::Taken;
    if (response.success()) {
      if (locked && !locks_) verify_lock(key, *lock, until, stop);
      return PutResult::Stored;
    }
    const bool refused_header = response.status == 501 && mode == PutMode::OnlyIfAbsent &&
                                conditional_ == Conditional::Unknown;
    if (!refused_header) {
      Error error = S3Client::failure("put", key, response);
      if (locked && response.status == 400) {
        error.hint("Option object_lock needs a bucket that was made with object lock.");
      }
      throw error;
    }
    ignore_conditional();
    return put_object(key, bytes, mode, stop);
  }

  /// Source: Amazon S3 API, PutObject: a request with a retention needs one of its checksums.
  void add_retention(const ObjectLock& lock, Time until, ByteView bytes,
                     net::HttpHeaders& headers) const {
    headers.emplace_back("x-amz-object-lock-mode",
                         lock.mode == LockMode::Compliance ? "COMPLIANCE" : "GOVERNANCE");
    headers.emplace_back("x-amz-object-lock-retain-until-date", format_rfc3339(until));
    if (options().skip_checksum) {
      headers.emplace_back("Content-MD5", crypto::to_base64(crypto::md5(bytes)));
    }
  }

  /// Source: Amazon S3 API, HeadObject (which tells only those who may also ask for the retention)
  /// and GetObjectRetention.
  void verify_lock(const ObjectKey& key, const ObjectLock& lock, Time until, const Stop& stop) {
    const net::HttpResponse head =
        client_.send({.method = net::HttpMethod::Head, .key = place().full(key)}, stop);
    AppliedLock applied = read_lock(head.header("x-amz-object-lock-mode"),
                                    head.header("x-amz-object-lock-retain-until-date"));
    if (!applied.mode) {
      const net::HttpResponse response =
          client_.send({.key = place().full(key), .query = {{"retention", ""}}}, stop);
      if (response.status == 403) {
        throw S3Client::failure("verify the lock of", key, response)
            .hint(
                "Give the keys the right s3:GetObjectRetention, or leave option object_lock out.");
      }
      if (response.status >= 500) throw S3Client::failure("verify the lock of", key, response);
      pugi::xml_document document;
      if (response.success() && document.load_buffer(response.body.data(), response.body.size())) {
        const pugi::xml_node retention = document.child("Retention");
        applied =
            read_lock(retention.child_value("Mode"), retention.child_value("RetainUntilDate"));
      }
    }
    require_applied(applied, lock, until, key, options().endpoint);
    locks_ = true;
  }

  static AppliedLock read_lock(std::string_view mode, std::string_view until) {
    AppliedLock lock{.until = parse_timestamp(until)};
    if (mode == "COMPLIANCE") lock.mode = LockMode::Compliance;
    if (mode == "GOVERNANCE") lock.mode = LockMode::Governance;
    return lock;
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
        options().endpoint);
  }

  /// For a get of no bytes.
  bool look_up_end(const ObjectKey& key, std::uint64_t offset, const Stop& stop) {
    const auto info = stat(key, stop);
    if (info && info->size < offset) throw too_short(key, offset, 0);
    return info.has_value();
  }

  void list_pages(const ObjectKey& prefix, const std::string& delimiter, const Stop& stop,
                  const std::function<void(const pugi::xml_node&, ListPages&)>& visit) {
    stop.check();
    check_prefix(prefix);
    QueryParameters query = {{"list-type", "2"}};
    if (!delimiter.empty()) query.emplace_back("delimiter", delimiter);
    client_.list(
        {.root = "ListBucketResult", .next = {{"NextContinuationToken", "continuation-token"}}},
        place().full_prefix(prefix), query,
        [&](const pugi::xml_node& page, ListPages& pages) {
          visit(page, pages);
          return true;
        },
        stop);
  }

  const KeyPlace& place() const { return client_.place(); }
  const S3Options& options() const { return client_.options(); }

  S3Client client_;
  std::atomic<Conditional> conditional_;
  /// Whether a lock that is asked for is given. Amazon's own store refuses what it cannot lock.
  std::atomic<bool> locks_;
};

}  // namespace

std::unique_ptr<ObjectStore> open_s3_store(const S3Options& options, S3Parts parts) {
  if (parts.access.versions_at) return open_s3_versions(options, std::move(parts));
  return std::make_unique<S3Store>(options, std::move(parts));
}

}  // namespace holdfast::storage
