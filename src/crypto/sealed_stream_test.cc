#include "crypto/sealed_stream.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "crypto/sealer.h"

namespace holdfast::crypto {
namespace {

constexpr std::uint64_t kStoredChunk = kSealedChunkBytes + 16;

Bytes pattern(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 >> 3);
  return bytes;
}

class SealedStreamTest : public ::testing::Test {
 protected:
  Bytes seal(ByteView plain, std::string_view place = "a/b") {
    Bytes sealed(sealed_size(plain.size()));
    seal_stream(key_, place, plain, sealed);
    return sealed;
  }
  /// The bytes from `offset` on, or the SQLSTATE of the failure.
  std::string get(const Bytes& sealed, std::uint64_t offset, std::uint64_t length,
                  std::string_view place = "a/b") {
    return get(key_, sealed, offset, length, place);
  }
  std::string get(const SecretKey& key, const Bytes& sealed, std::uint64_t offset,
                  std::uint64_t length, std::string_view place) {
    try {
      const SealedStream stream(key, place, ByteView(sealed).first(kSealedHeaderBytes), "object");
      if (offset + length > stream.plain_bytes()) return "too short";
      const auto extent = stream.chunks_of(offset, length);
      if (extent.offset + extent.length > sealed.size()) return "too short";
      Bytes plain(length);
      stream.open(offset, ByteView(sealed).subspan(extent.offset, extent.length), plain);
      return std::string(as_text(plain));
    } catch (const Error& error) {
      return std::string(error.state().view());
    }
  }
  std::string all(const Bytes& sealed, std::uint64_t length) { return get(sealed, 0, length); }

  const SecretKey key_ = SecretKey::random();
};

TEST_F(SealedStreamTest, OpensWhatItSealedOfEverySize) {
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, kSealedChunkBytes - 1, kSealedChunkBytes,
        kSealedChunkBytes + 1, 3 * kSealedChunkBytes, 3 * kSealedChunkBytes + 5}) {
    const Bytes plain = pattern(size);
    const Bytes sealed = seal(plain);
    EXPECT_EQ(plain_size(sealed.size()), size);
    EXPECT_EQ(all(sealed, size), as_text(plain)) << size;
  }
}

TEST_F(SealedStreamTest, OpensEveryRange) {
  const Bytes plain = pattern(3 * kSealedChunkBytes + 100);
  const Bytes sealed = seal(plain);
  const std::uint64_t chunk = kSealedChunkBytes;
  for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{1}, chunk - 1, chunk,
                                     chunk + 1, 3 * chunk, 3 * chunk + 99, 3 * chunk + 100}) {
    for (const std::uint64_t length : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{100},
                                       chunk, chunk + 1, 2 * chunk, 3 * chunk}) {
      if (offset + length > plain.size()) continue;
      EXPECT_EQ(get(sealed, offset, length), as_text(ByteView(plain).subspan(offset, length)))
          << offset << " " << length;
    }
  }
}

TEST_F(SealedStreamTest, HidesWhatItSeals) {
  const std::string secret(1000, 's');
  const Bytes sealed = seal(as_bytes(secret));
  EXPECT_EQ(as_text(sealed).find("ssss"), std::string_view::npos);
  EXPECT_NE(sealed, seal(as_bytes(secret)));
}

TEST_F(SealedStreamTest, KnowsWhichSizesThereAre) {
  EXPECT_EQ(sealed_size(0), 80U);
  for (const std::uint64_t size : {0ULL, 79ULL}) EXPECT_FALSE(plain_size(size)) << size;
  EXPECT_EQ(plain_size(80), 0U);
  // A second chunk has at least one byte.
  EXPECT_EQ(plain_size(64 + kStoredChunk), kSealedChunkBytes);
  for (std::uint64_t more = 1; more <= 16; ++more) {
    EXPECT_FALSE(plain_size(64 + kStoredChunk + more)) << more;
  }
  EXPECT_EQ(plain_size(64 + kStoredChunk + 17), kSealedChunkBytes + 1);
  EXPECT_FALSE(plain_size(~0ULL));
}

TEST_F(SealedStreamTest, RefusesAnotherKeyOrPlace) {
  const Bytes sealed = seal(as_bytes("text"));
  EXPECT_EQ(get(sealed, 0, 4), "text");
  EXPECT_EQ(get(sealed, 0, 4, "a/c"), "XX001");
  EXPECT_EQ(get(SecretKey::random(), sealed, 0, 4, "a/b"), "XX001");
}

TEST_F(SealedStreamTest, RefusesEveryChangedBit) {
  const Bytes sealed = seal(as_bytes("secret"));
  for (std::size_t bit = 0; bit < sealed.size() * 8; ++bit) {
    Bytes changed = sealed;
    changed[bit / 8] ^= std::byte(1U << (bit % 8));
    const std::string got = get(changed, 0, 6);
    EXPECT_TRUE(got == "XX001" || got == "0A000" || got == "too short") << bit << " " << got;
  }
}

TEST_F(SealedStreamTest, RefusesReorderedRepeatedAndMissingChunks) {
  const Bytes plain = pattern(3 * kSealedChunkBytes);
  const Bytes sealed = seal(plain);
  const auto chunk = [&](std::size_t number) {
    return ByteView(sealed).subspan(kSealedHeaderBytes + number * kStoredChunk, kStoredChunk);
  };
  const auto made_of = [&](std::vector<std::size_t> numbers, std::uint64_t plain_bytes) {
    Bytes made(sealed.begin(), sealed.begin() + kSealedHeaderBytes);
    store<std::uint64_t>(made, 16, plain_bytes);
    for (const std::size_t number : numbers) {
      made.insert(made.end(), chunk(number).begin(), chunk(number).end());
    }
    return made;
  };
  EXPECT_EQ(all(made_of({0, 1, 2}, plain.size()), plain.size()), as_text(plain));
  EXPECT_EQ(all(made_of({1, 0, 2}, plain.size()), plain.size()), "XX001");
  EXPECT_EQ(all(made_of({0, 0, 2}, plain.size()), plain.size()), "XX001");
  EXPECT_EQ(all(made_of({0, 2}, 2 * kSealedChunkBytes), 2 * kSealedChunkBytes), "XX001");
  // Cut at a chunk's end, with a header that says so.
  EXPECT_EQ(all(made_of({0, 1}, 2 * kSealedChunkBytes), 2 * kSealedChunkBytes), "XX001");
  EXPECT_EQ(all(made_of({0, 1, 2, 2}, 4 * kSealedChunkBytes), 4 * kSealedChunkBytes), "XX001");
}

TEST_F(SealedStreamTest, TakesNoChunkOfAnotherObject) {
  const Bytes plain = pattern(2 * kSealedChunkBytes);
  Bytes one = seal(plain);
  const Bytes other = seal(plain);
  std::copy_n(other.begin() + kSealedHeaderBytes, kStoredChunk, one.begin() + kSealedHeaderBytes);
  EXPECT_EQ(get(one, 0, 10), "XX001");
}

TEST_F(SealedStreamTest, SaysWhenAnObjectIsNotEncrypted) {
  const Bytes plain(100);
  try {
    const SealedStream stream(key_, "p", ByteView(plain).first(kSealedHeaderBytes), "data/1.pack");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.message(), "could not decrypt object \"data/1.pack\"");
    EXPECT_NE(error.detail().find("does not appear to be encrypted"), std::string::npos);
  }
}

}  // namespace
}  // namespace holdfast::crypto
