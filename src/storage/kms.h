#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/stop.h"
#include "net/http.h"
#include "storage/cloud_environment.h"
#include "storage/open_store.h"
#include "storage/uri.h"

namespace holdfast::storage {

/// A key of a key management service. It encrypts other keys and never leaves the service. Used by
/// one thread.
class KmsKey {
 public:
  virtual ~KmsKey() = default;

  /// Which key it is, without credentials: what is stored beside what it encrypted.
  virtual std::string id() const = 0;
  /// "aws", "gs" or "azure-kms": only keys of one kind can open what another of them encrypted.
  virtual std::string_view scheme() const = 0;
  /// Checksums of what travels are left to the caller, who can decrypt what came back.
  virtual Bytes encrypt(ByteView secret, const Stop& stop) = 0;
  /// Throws when this key did not encrypt it, or the service cannot be asked.
  virtual Bytes decrypt(ByteView encrypted, const Stop& stop) = 0;
};

/// What a driver needs of its surroundings.
struct KmsParts {
  std::unique_ptr<net::HttpTransport> http;
  CloudEnvironment environment;  ///< its transport may be `http`
};

/// aws:///<id, ARN or alias/…>?REGION=…, gs:///projects/…/cryptoKeys/…,
/// azure-kms:///<key>/<version>?AZURE_VAULT_NAME=…, with the parameters of CockroachDB. Throws
/// kInvalidParameterValue for a URI that cannot be right. Nothing is asked yet.
std::unique_ptr<KmsKey> open_kms(std::string_view uri, const StorageConfig& config);

/// The drivers. Each throws kInvalidParameterValue for parameters that are unknown, missing or
/// impossible.
std::unique_ptr<KmsKey> open_aws_kms(const StorageUri& uri, const StorageConfig& config,
                                     KmsParts parts);
std::unique_ptr<KmsKey> open_gcp_kms(const StorageUri& uri, const StorageConfig& config,
                                     KmsParts parts);
std::unique_ptr<KmsKey> open_azure_kms(const StorageUri& uri, const StorageConfig& config,
                                       KmsParts parts);

}  // namespace holdfast::storage
