#include "crypto/secret_key.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace holdfast::crypto {
namespace {

Bytes hex(std::string_view text) { return from_hex(text).value(); }

TEST(SecretKey, IsDerivedAsHkdfSays) {
  // The vectors of RFC 5869 have keys of 22 and 80 bytes; this one was made with OpenSSL 3's
  // `openssl kdf -keylen 32 HKDF`.
  const SecretKey key(hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"));
  EXPECT_EQ(to_hex(derive_key(key, hex("a0a1a2a3a4a5a6a7"), "info").bytes()),
            "5bfd7b65cfd843bd00f619a0306d28207012884b7b3727811e9ce07fc8aa7529");
}

TEST(SecretKey, IsDerivedAsScryptSays) {
  // Source: RFC 7914, section 12: the first half of its third vector.
  const SecretKey key =
      stretch_passphrase("pleaseletmein", as_bytes("SodiumChloride"), {.n = 16384, .r = 8, .p = 1});
  EXPECT_EQ(to_hex(key.bytes()),
            "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2");
}

TEST(SecretKey, RefusesCostsThatSomebodyElseMadeUp) {
  EXPECT_TRUE(ScryptCost{}.acceptable());
  for (const ScryptCost cost :
       {ScryptCost{.n = 1024}, ScryptCost{.n = (1 << 15) + 1}, ScryptCost{.n = 1ULL << 40},
        ScryptCost{.r = 1}, ScryptCost{.r = 1U << 20}, ScryptCost{.p = 0}, ScryptCost{.p = 1000},
        ScryptCost{.n = 0}, ScryptCost{.n = 1ULL << 63, .r = 1U << 31}}) {
    EXPECT_FALSE(cost.acceptable()) << cost.n << " " << cost.r << " " << cost.p;
    EXPECT_THROW(stretch_passphrase("x", as_bytes("salt"), cost), Error);
  }
}

TEST(SecretKey, ComparesWithOthers) {
  const SecretKey key = SecretKey::random();
  EXPECT_TRUE(key.equals(SecretKey(key.bytes())));
  EXPECT_FALSE(key.equals(SecretKey::random()));
}

}  // namespace
}  // namespace holdfast::crypto
