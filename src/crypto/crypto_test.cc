#include <gtest/gtest.h>

#include "base/error.h"
#include "crypto/base64.h"
#include "crypto/digest.h"
#include "crypto/rsa.h"
#include "crypto/testing/rsa_key.h"

namespace holdfast::crypto {
namespace {

// Source: FIPS 180-4 examples, RFC 4231 test cases 1 and 2, RFC 1321 appendix A.5.
TEST(Digest, GivesThePublishedAnswers) {
  EXPECT_EQ(to_hex(sha256(as_bytes("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(to_hex(sha256({})), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(to_hex(hmac_sha256(as_bytes("Jefe"), as_bytes("what do ya want for nothing?"))),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(to_hex(hmac_sha256(Bytes(20, std::byte{0x0b}), as_bytes("Hi There"))),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(to_hex(hmac_sha256({}, {})),
            "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
  EXPECT_EQ(to_hex(md5(as_bytes("message digest"))), "f96b697d7cb7938d525a2f31aaf161d0");
}

// Source: RFC 4648, section 10.
TEST(Base64, GivesThePublishedAnswersAndReadsThem) {
  const std::pair<const char*, const char*> pairs[] = {{"", ""},
                                                       {"f", "Zg=="},
                                                       {"fo", "Zm8="},
                                                       {"foo", "Zm9v"},
                                                       {"foob", "Zm9vYg=="},
                                                       {"fooba", "Zm9vYmE="},
                                                       {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, encoded] : pairs) {
    EXPECT_EQ(to_base64(as_bytes(plain)), encoded);
    EXPECT_EQ(as_text(from_base64(encoded).value()), plain);
  }
  const Bytes high = {std::byte{0xfb}, std::byte{0xff}};
  EXPECT_EQ(to_base64_url(high), "-_8");
  EXPECT_EQ(from_base64("-_8"), high);
  EXPECT_EQ(from_base64("+/8=\n"), high);
}

TEST(Base64, RefusesWhatIsNone) {
  for (const char* text : {"Z", "Zg=a", "Z*==", "Zh==", "Zg==="}) {
    EXPECT_FALSE(from_base64(text)) << text;
  }
}

TEST(Rsa, SignsWhatThePublicKeyVerifies) {
  const RsaKey key;
  const Bytes signature = sign_rs256(key.pem, as_bytes("header.claims"));

  EVP_MD_CTX* context = EVP_MD_CTX_new();
  EVP_DigestVerifyInit(context, nullptr, EVP_sha256(), nullptr, key.key.get());
  const auto verify = [&](std::string_view message) {
    return EVP_DigestVerify(context, reinterpret_cast<const unsigned char*>(signature.data()),
                            signature.size(),
                            reinterpret_cast<const unsigned char*>(message.data()), message.size());
  };
  EXPECT_EQ(verify("header.claims"), 1);
  EVP_MD_CTX_free(context);
}

TEST(Rsa, NamesNoPartOfABadKey) {
  try {
    sign_rs256("-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----\n", as_bytes("x"));
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.message().find("hush"), std::string::npos);
  }
}

}  // namespace
}  // namespace holdfast::crypto
