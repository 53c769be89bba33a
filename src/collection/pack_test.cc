#include "collection/pack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/error.h"
#include "collection/format.h"
#include "collection/pack_internal.h"
#include "storage/memory_store.h"

namespace holdfast::collection {
namespace {

using testing::HasSubstr;

BackupUuid uuid_of(int seed) {
  BackupUuid uuid{};
  for (std::size_t i = 0; i < uuid.size(); ++i) uuid[i] = static_cast<std::byte>(seed + 7 * i);
  return uuid;
}

Bytes text_like(std::size_t bytes, unsigned seed) {
  Bytes made(bytes);
  std::minstd_rand random(seed);
  for (std::size_t i = 0; i < bytes; ++i) {
    made[i] = i >= 64 && random() % 4 != 0 ? made[i - 64] : static_cast<std::byte>(random() >> 8);
  }
  return made;
}

Bytes noise(std::size_t bytes) {
  Bytes made(bytes);
  std::mt19937 random(1);
  for (std::byte& byte : made) byte = static_cast<std::byte>(random());
  return made;
}

class FrameRoundTrip : public ::testing::TestWithParam<const char*> {};

TEST_P(FrameRoundTrip, GivesBackEveryKindOfFrame) {
  FrameEncoder encoder(Compression::parse(GetParam()));
  FrameDecoder decoder;
  for (const std::size_t size : {std::size_t{1}, std::size_t{7}, std::size_t{8}, std::size_t{15},
                                 std::size_t{16}, std::size_t{17}, std::size_t{8192},
                                 std::size_t{kFrameBytes} - 1, std::size_t{kFrameBytes}}) {
    Bytes zero_but_last(size);
    zero_but_last.back() = std::byte{1};
    for (const Bytes& plain : {text_like(size, 1), noise(size), Bytes(size), zero_but_last}) {
      Bytes out(encoder.bound(size));
      FrameEntry entry;
      encoder.encode(plain, out, entry);
      EXPECT_EQ(entry.plain_bytes, size);
      EXPECT_LE(entry.stored_bytes, size);
      EXPECT_EQ(entry.codec == Codec::Zero, plain == Bytes(size));
      Bytes back(size, std::byte{0xee});
      decoder.decode(entry, ByteView(out).first(entry.stored_bytes), back, "object");
      EXPECT_TRUE(back == plain);
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Codecs, FrameRoundTrip,
                         testing::Values("none", "lz4", "zstd", "zstd:1", "zstd:3", "zstd:19"),
                         [](const auto& param_info) {
                           std::string name = param_info.param;
                           std::replace(name.begin(), name.end(), ':', '_');
                           return name;
                         });

TEST(CompressionTest, ReadsWhatItPrints) {
  for (const char* text : {"none", "lz4", "zstd:1", "zstd:19"}) {
    EXPECT_EQ(Compression::parse(text).print(), text);
  }
  EXPECT_EQ(Compression::parse("zstd").print(), "zstd:1");
  for (const char* text :
       {"", "zstd:", "zstd:0", "zstd:20", "zstd:-1", "zstd:1x", "ZSTD", "gzip"}) {
    EXPECT_THROW(Compression::parse(text), Error) << text;
  }
}

TEST(HashTest, IsTheXxh3OfTheSpecification) {
  // Source: xxHash's specification test vectors: XXH3_128bits of nothing, seed 0.
  EXPECT_EQ(to_hex(to_bytes(hash128({}))), "99aa06d3014798d86001c324468d497f");
  const Bytes bytes = noise(100000);
  EXPECT_EQ(hash_from_bytes(to_bytes(hash128(bytes))), hash128(bytes));
}

TEST(FrameDecoderTest, RefusesFlippedBitsAndWrongLengths) {
  for (const char* codec : {"none", "lz4", "zstd"}) {
    FrameEncoder encoder(Compression::parse(codec));
    FrameDecoder decoder;
    const Bytes plain = text_like(3000, 2);
    Bytes stored(encoder.bound(plain.size()));
    FrameEntry entry;
    encoder.encode(plain, stored, entry);
    stored.resize(entry.stored_bytes);
    Bytes back(plain.size());
    for (std::size_t i = 0; i < stored.size(); ++i) {
      Bytes bent = stored;
      bent[i] ^= std::byte{0x10};
      try {
        decoder.decode(entry, bent, back, "data/7.pack");
        // zstd has bits that mean nothing; then the content must be right.
        EXPECT_TRUE(back == plain) << codec << " byte " << i;
      } catch (const Error& error) {
        EXPECT_EQ(error.state(), sqlstate::kDataCorrupted);
        EXPECT_THAT(error.message(), HasSubstr("data/7.pack"));
      }
    }
    EXPECT_THROW(decoder.decode(entry, ByteView(stored).first(stored.size() - 1), back, "o"),
                 Error);
    EXPECT_THROW(decoder.decode(entry, stored, MutableByteView(back).first(2999), "o"), Error);
    FrameEntry other = entry;
    other.hash.low ^= 1;
    EXPECT_THROW(decoder.decode(other, stored, back, "o"), Error);
  }
}

class PackTest : public ::testing::Test {
 protected:
  PackTest() {
    builder_.reset(3, uuid_);
    for (std::uint32_t i = 0; i < 5; ++i) {
      files_.push_back(i == 2 ? Bytes(8192) : text_like(1000 * (i + 1), i));
      builder_.add(encoder_, 10 + i, 0, files_.back());
    }
    summary_ = builder_.finish();
    bytes_.assign(builder_.bytes().begin(), builder_.bytes().end());
    put(bytes_);
  }
  void put(ByteView bytes) { store_.put(key_, bytes, storage::PutMode::Overwrite, stop_); }
  /// Everything a restore does with a pack.
  void read_all() {
    const auto entries = read_pack_index(store_, key_, summary_, uuid_, stop_);
    FrameDecoder decoder;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      Bytes stored(entries[i].stored_bytes);
      store_.get_into(key_, entries[i].offset, stored, stop_);
      Bytes plain(entries[i].plain_bytes);
      decoder.decode(entries[i], stored, plain, key_);
      EXPECT_TRUE(plain == files_.at(i));
    }
    Bytes header(kPackHeaderBytes);
    store_.get_into(key_, 0, header, stop_);
    check_pack_header(header, summary_.number, uuid_, key_);
  }

  const BackupUuid uuid_ = uuid_of(1);
  const storage::ObjectKey key_ = "2026/11/20-223000.00/data/3.pack";
  storage::MemoryStore store_;
  Stop stop_ = Stop::never();
  FrameEncoder encoder_{Compression{}};
  PackBuilder builder_{1024};
  std::vector<Bytes> files_;
  PackSummary summary_;
  Bytes bytes_;
};

TEST_F(PackTest, ReadsBackWhatWasBuilt) {
  EXPECT_EQ(summary_.number, 3U);
  EXPECT_EQ(summary_.size, bytes_.size());
  EXPECT_EQ(summary_.frames, 5U);
  EXPECT_EQ(summary_.first_file, 10U);
  EXPECT_EQ(summary_.last_file, 14U);
  EXPECT_EQ(summary_.plain_bytes, 1000U + 2000 + 8192 + 4000 + 5000);
  read_all();
  const OpenedPack opened = open_pack(store_, key_, stop_);
  EXPECT_EQ(opened.uuid, uuid_);
  EXPECT_EQ(opened.summary.number, 3U);
  EXPECT_EQ(opened.summary.index_hash, summary_.index_hash);
  EXPECT_EQ(opened.summary.plain_bytes, summary_.plain_bytes);
  EXPECT_EQ(opened.entries.size(), 5U);
}

TEST_F(PackTest, EveryFlippedByteIsFound) {
  for (std::size_t i = 0; i < bytes_.size(); ++i) {
    Bytes bent = bytes_;
    bent[i] ^= std::byte{0x04};
    put(bent);
    try {
      // A version is believed, whatever else: so both states are right there.
      read_all();
      // zstd ignores a few bits of its frames; read_all() has compared the content then.
      EXPECT_GE(i, kPackHeaderBytes);
      EXPECT_LT(i, summary_.index_offset);
    } catch (const Error& error) {
      EXPECT_THAT(error.message(), HasSubstr(key_)) << "byte " << i;
    }
  }
}

TEST_F(PackTest, EveryTruncationIsFound) {
  for (std::size_t size = 0; size < bytes_.size(); ++size) {
    put(ByteView(bytes_).first(size));
    EXPECT_THROW(read_pack_index(store_, key_, summary_, uuid_, stop_), Error) << size;
    EXPECT_THROW(open_pack(store_, key_, stop_), Error) << size;
  }
}

TEST_F(PackTest, AMissingPackIsNamed) {
  store_.remove(key_, stop_);
  try {
    read_pack_index(store_, key_, summary_, uuid_, stop_);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kUndefinedFile);
    EXPECT_THAT(error.message(), HasSubstr(key_));
  }
}

TEST_F(PackTest, APackOfAnotherBackupOrPlaceIsRefused) {
  EXPECT_THROW(read_pack_index(store_, key_, summary_, uuid_of(2), stop_), Error);
  PackSummary other = summary_;
  other.number = 4;
  EXPECT_THROW(read_pack_index(store_, key_, other, uuid_, stop_), Error);
}

TEST_F(PackTest, LengthsThatCannotBeAreRefusedBeforeAllocating) {
  PackSummary huge = summary_;
  huge.size = 1ULL << 60;
  EXPECT_THROW(read_pack_index(store_, key_, huge, uuid_, stop_), Error);
  PackSummary backwards = summary_;
  backwards.index_offset = ~0ULL;
  EXPECT_THROW(read_pack_index(store_, key_, backwards, uuid_, stop_), Error);
}

TEST_F(PackTest, AnEmptyPackIsAPack) {
  builder_.reset(1, uuid_);
  EXPECT_TRUE(builder_.empty());
  summary_ = builder_.finish();
  put(builder_.bytes());
  files_.clear();
  read_all();
}

TEST(PackBuilderTest, IsFullBeforeItPassesTheTarget) {
  PackBuilder builder;
  FrameEncoder encoder(Compression::parse("none"));
  builder.reset(1, uuid_of(1));
  const Bytes frame = noise(kFrameBytes);
  std::uint32_t frames = 0;
  while (!builder.full_for(encoder, frame.size())) builder.add(encoder, 1, frames++, frame);
  EXPECT_EQ(frames, kPackTargetBytes / kFrameBytes - 1);
  const PackSummary summary = builder.finish();
  EXPECT_LE(summary.size, storage::kMaxObjectBytes);
  // The same memory again.
  builder.reset(2, uuid_of(1));
  EXPECT_TRUE(builder.empty());
  EXPECT_FALSE(builder.full_for(encoder, frame.size()));
}

TEST(PackBuilderTest, ZeroFramesTakeNoRoomButAreLimited) {
  PackBuilder builder(1 << 16);
  FrameEncoder encoder(Compression{});
  builder.reset(1, uuid_of(1));
  const Bytes zero(8);
  std::uint32_t frames = 0;
  while (!builder.full_for(encoder, zero.size())) builder.add(encoder, 1, frames++, zero);
  EXPECT_EQ(frames, kMaxPackFrames);
  storage::MemoryStore store;
  const PackSummary summary = builder.finish();
  store.put("p", builder.bytes(), storage::PutMode::OnlyIfAbsent, Stop::never());
  EXPECT_EQ(read_pack_index(store, "p", summary, uuid_of(1), Stop::never()).size(), frames);
}

}  // namespace
}  // namespace holdfast::collection
