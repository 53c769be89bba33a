#include "collection/kms_guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "crypto/sealer.h"

namespace holdfast::collection {
namespace {

using crypto::SecretKey;

/// The keys of a service: names that lead to real keys.
struct Service {
  std::map<std::string, Bytes> keys;
  bool away = false;
  bool lies = false;
};

class FakeKms final : public storage::KmsKey {
 public:
  FakeKms(Service& service, std::string name) : service_(service), name_(std::move(name)) {}
  std::string id() const override { return "aws:///" + name_; }
  std::string_view scheme() const override { return "aws"; }
  Bytes encrypt(ByteView secret, const Stop& /*stop*/) override {
    if (service_.lies) return crypto::Sealer(key()).seal(Bytes(32), "kms");
    return crypto::Sealer(key()).seal(secret, "kms");
  }
  Bytes decrypt(ByteView encrypted, const Stop& /*stop*/) override {
    return crypto::Sealer(key()).open(encrypted, "kms");
  }

 private:
  const Bytes& key() const {
    if (service_.away) throw Error(sqlstate::kConnectionFailure, "the service is away");
    return service_.keys.at(name_);
  }
  Service& service_;
  const std::string name_;
};

class KmsGuardTest : public ::testing::Test {
 protected:
  static Service service_with(std::vector<std::string> names) {
    Service service;
    const Bytes key = crypto::random_bytes(32);
    for (const auto& name : names) service.keys[name] = key;
    return service;
  }
  using Named = std::pair<Service*, std::string>;
  static KmsGuard guard(const std::vector<Named>& named) {
    std::vector<std::unique_ptr<storage::KmsKey>> keys;
    for (const auto& [service, name] : named) {
      keys.push_back(std::make_unique<FakeKms>(*service, name));
    }
    return KmsGuard(std::move(keys));
  }
  bool opens(const std::vector<Named>& named) {
    const auto key = guard(named).unwrap(info_, "place", stop_);
    return key && key->equals(key_);
  }
  std::string failure(const auto& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.message();
    }
    return "";
  }

  Service one_ = service_with({"one", "alias/one"});
  Service two_ = service_with({"two"});
  const SecretKey key_ = SecretKey::random();
  proto::EncryptionInfo info_;
  Stop stop_ = Stop::never();
};

TEST_F(KmsGuardTest, EachOfTheKeysOpens) {
  guard({{&one_, "one"}, {&two_, "two"}}).wrap(key_, "place", info_, stop_);
  EXPECT_EQ(info_.keys_size(), 2);
  EXPECT_TRUE(opens({{&one_, "one"}}));
  EXPECT_TRUE(opens({{&two_, "two"}}));
  EXPECT_TRUE(opens({{&two_, "two"}, {&one_, "one"}}));
  // One that was not used does not disturb.
  Service three = service_with({"three"});
  EXPECT_TRUE(opens({{&three, "three"}, {&two_, "two"}}));
  EXPECT_FALSE(opens({{&three, "three"}}));
  EXPECT_EQ(guard({{&three, "three"}}).refused().message(),
            "one of the provided URIs was not used when encrypting the base BACKUP");
}

TEST_F(KmsGuardTest, AnotherNameOfTheSameKeyOpens) {
  guard({{&one_, "one"}}).wrap(key_, "place", info_, stop_);
  EXPECT_TRUE(opens({{&one_, "alias/one"}}));
}

TEST_F(KmsGuardTest, OneServiceThatAnswersIsEnoughToOpen) {
  guard({{&one_, "one"}, {&two_, "two"}}).wrap(key_, "place", info_, stop_);
  one_.away = true;
  EXPECT_TRUE(opens({{&one_, "one"}, {&two_, "two"}}));
  EXPECT_EQ(failure([&] {
              opens({{&one_, "one"}});
            }),
            "failed to decrypt data key: the service is away");
}

TEST_F(KmsGuardTest, AllServicesMustAnswerForANewKey) {
  two_.away = true;
  EXPECT_EQ(failure([&] {
              guard({{&one_, "one"}, {&two_, "two"}}).wrap(key_, "place", info_, stop_);
            }),
            "failed to encrypt data key for KMS scheme aws: the service is away");
  two_.away = false;
  two_.lies = true;
  EXPECT_NE(failure([&] { guard({{&two_, "two"}}).wrap(key_, "place", info_, stop_); }), "");
}

TEST_F(KmsGuardTest, IsBoundToThePlace) {
  guard({{&one_, "one"}}).wrap(key_, "place", info_, stop_);
  EXPECT_NE(failure([&] { guard({{&one_, "one"}}).unwrap(info_, "elsewhere", stop_); }), "");
}

TEST_F(KmsGuardTest, PassphrasesAndKeysDoNotOpenEachOther) {
  guard({{&one_, "one"}}).wrap(key_, "place", info_, stop_);
  PassphraseGuard passphrase("x");
  EXPECT_FALSE(passphrase.unwrap(info_, "place", stop_));
  info_.Clear();
  passphrase.wrap(key_, "place", info_, stop_);
  EXPECT_FALSE(guard({{&one_, "one"}}).unwrap(info_, "place", stop_));
}

}  // namespace
}  // namespace holdfast::collection
