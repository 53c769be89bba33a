#include "crypto/sealed_stream.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/assert.h"
#include "base/error.h"
#include "crypto/cipher_internal.h"
#include "crypto/sealer.h"

namespace holdfast::crypto {

namespace {

constexpr std::uint32_t kStreamVersion = 1;

// Offsets in the header.
constexpr std::size_t kVersionAt = 8;
constexpr std::size_t kChunkBytesAt = 12;
constexpr std::size_t kPlainBytesAt = 16;
constexpr std::size_t kReservedAt = 24;
constexpr std::size_t kSaltAt = 32;
constexpr std::size_t kSaltBytes = 32;

using Nonce = std::array<std::byte, kNonceBytes>;

/// Seven zero bytes, the chunk's number (big-endian), and whether it is the last one. The key is
/// used for nothing else, so no part of it need be random.
Nonce nonce_of(std::uint64_t chunk, bool last) {
  Nonce nonce{};
  for (std::size_t i = 0; i < 4; ++i) nonce[7 + i] = static_cast<std::byte>(chunk >> (24 - 8 * i));
  nonce[11] = static_cast<std::byte>(last ? 1 : 0);
  return nonce;
}

std::uint64_t chunks_in(std::uint64_t plain_bytes) {
  return std::max<std::uint64_t>((plain_bytes + kSealedChunkBytes - 1) / kSealedChunkBytes, 1);
}

/// The object's own key. The whole header goes into it, so that one with another size or chunk
/// length gives another key.
SecretKey object_key(const SecretKey& data_key, std::string_view place, ByteView header) {
  std::string info = "holdfast object";
  info.append(as_text(header.first(kSaltAt)));
  info.append(place);
  return derive_key(data_key, header.subspan(kSaltAt, kSaltBytes), info);
}

Error damaged(std::string_view object, std::string_view why) {
  return Error(sqlstate::kDataCorrupted, fmt::format("could not decrypt object \"{}\"", object))
      .detail(std::string(why));
}

ByteView checked(ByteView header, std::string_view object) {
  HF_ASSERT(header.size() == kSealedHeaderBytes);
  if (as_text(header.first(kSealedMagic.size())) != kSealedMagic) {
    throw damaged(object, "It does not appear to be encrypted, as everything beside it is.");
  }
  const auto version = load<std::uint32_t>(header, kVersionAt);
  if (version > kStreamVersion) {
    throw Error(sqlstate::kFeatureNotSupported,
                fmt::format("object \"{}\" is encrypted in version {}, which is newer than this "
                            "holdfast",
                            object, version))
        .hint("Use the holdfast that wrote it, or a newer one.");
  }
  if (version == 0 || load<std::uint32_t>(header, kChunkBytesAt) != kSealedChunkBytes ||
      load<std::uint64_t>(header, kReservedAt) != 0 ||
      load<std::uint64_t>(header, kPlainBytesAt) > kMaxStreamBytes) {
    throw damaged(object, "Its header is damaged.");
  }
  return header;
}

}  // namespace

std::uint64_t sealed_size(std::uint64_t plain_bytes) {
  return kSealedHeaderBytes + plain_bytes + kTagBytes * chunks_in(plain_bytes);
}

std::optional<std::uint64_t> plain_size(std::uint64_t sealed_bytes) {
  if (sealed_bytes < kSealedHeaderBytes + kTagBytes) return std::nullopt;
  const std::uint64_t body = sealed_bytes - kSealedHeaderBytes;
  constexpr std::uint64_t kStored = kSealedChunkBytes + kTagBytes;
  const std::uint64_t chunks = (body + kStored - 1) / kStored;
  if (body < chunks * kTagBytes) return std::nullopt;
  const std::uint64_t plain = body - chunks * kTagBytes;
  if (plain > kMaxStreamBytes || chunks_in(plain) != chunks) return std::nullopt;
  return plain;
}

void seal_stream(const SecretKey& data_key, std::string_view place, ByteView plain,
                 MutableByteView sealed) {
  HF_ASSERT(plain.size() <= kMaxStreamBytes && sealed.size() == sealed_size(plain.size()));
  const MutableByteView header = sealed.first(kSealedHeaderBytes);
  std::ranges::copy(as_bytes(kSealedMagic), header.begin());
  store<std::uint32_t>(header, kVersionAt, kStreamVersion);
  store<std::uint32_t>(header, kChunkBytesAt, kSealedChunkBytes);
  store<std::uint64_t>(header, kPlainBytesAt, plain.size());
  store<std::uint64_t>(header, kReservedAt, 0);
  std::ranges::copy(random_bytes(kSaltBytes), header.begin() + kSaltAt);
  const SecretKey key = object_key(data_key, place, header);

  const CipherContext context(EVP_CIPHER_CTX_new());
  // The key's schedule is made once for all chunks.
  require(context != nullptr && EVP_EncryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr,
                                                   raw(key.bytes().data()), nullptr) == 1);
  std::byte* out = sealed.data() + kSealedHeaderBytes;
  const std::uint64_t chunks = chunks_in(plain.size());
  for (std::uint64_t chunk = 0; chunk < chunks; ++chunk) {
    const std::size_t at = chunk * kSealedChunkBytes;
    const std::size_t length = std::min<std::size_t>(kSealedChunkBytes, plain.size() - at);
    const Nonce nonce = nonce_of(chunk, chunk + 1 == chunks);
    int done = 0;
    require(EVP_EncryptInit_ex(context.get(), nullptr, nullptr, nullptr, raw(nonce.data())) == 1 &&
            EVP_EncryptUpdate(context.get(), raw(out), &done, raw(plain.data() + at),
                              size_of(length)) == 1 &&
            EVP_EncryptFinal_ex(context.get(), raw(out + length), &done) == 1 &&
            EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_GET_TAG, size_of(kTagBytes),
                                out + length) == 1);
    out += length + kTagBytes;
  }
}

SealedStream::SealedStream(const SecretKey& data_key, std::string_view place, ByteView header,
                           std::string object)
    : object_(std::move(object)),
      plain_bytes_(load<std::uint64_t>(checked(header, object_), kPlainBytesAt)),
      key_(object_key(data_key, place, header)) {}

std::uint64_t SealedStream::chunk_count() const { return chunks_in(plain_bytes_); }

std::uint64_t SealedStream::plain_bytes_of(std::uint64_t chunk) const {
  return std::min(kSealedChunkBytes, plain_bytes_ - chunk * kSealedChunkBytes);
}

SealedStream::Extent SealedStream::chunks_of(std::uint64_t offset, std::uint64_t length) const {
  HF_ASSERT(offset <= plain_bytes_ && length <= plain_bytes_ - offset);
  const std::uint64_t first = std::min(offset / kSealedChunkBytes, chunk_count() - 1);
  const std::uint64_t last = length == 0 ? first : (offset + length - 1) / kSealedChunkBytes;
  constexpr std::uint64_t kStored = kSealedChunkBytes + kTagBytes;
  return {.offset = kSealedHeaderBytes + first * kStored,
          .length = (last - first) * kStored + plain_bytes_of(last) + kTagBytes};
}

void SealedStream::open(std::uint64_t offset, ByteView chunks, MutableByteView into) const {
  HF_ASSERT(chunks.size() == chunks_of(offset, into.size()).length);
  const CipherContext context(EVP_CIPHER_CTX_new());
  require(context != nullptr && EVP_DecryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr,
                                                   raw(key_.bytes().data()), nullptr) == 1,
          "decrypt");
  // Where only part of a chunk is wanted.
  Bytes whole;
  std::uint64_t chunk = std::min(offset / kSealedChunkBytes, chunk_count() - 1);
  std::size_t filled = 0;
  for (std::size_t at = 0; at < chunks.size(); ++chunk) {
    const std::size_t length = plain_bytes_of(chunk);
    const std::uint64_t begin = chunk * kSealedChunkBytes;
    const std::size_t skip = offset > begin ? offset - begin : 0;
    const std::size_t wanted = std::min(length - skip, into.size() - filled);
    const bool in_place = wanted == length;
    if (!in_place) whole.resize(kSealedChunkBytes);
    std::byte* out = in_place ? into.data() + filled : whole.data();
    const Nonce nonce = nonce_of(chunk, chunk + 1 == chunk_count());
    std::array<std::byte, kTagBytes> tag;
    std::ranges::copy(chunks.subspan(at + length, kTagBytes), tag.begin());
    int done = 0;
    require(EVP_DecryptInit_ex(context.get(), nullptr, nullptr, nullptr, raw(nonce.data())) == 1 &&
                EVP_DecryptUpdate(context.get(), raw(out), &done, raw(chunks.data() + at),
                                  size_of(length)) == 1 &&
                EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_SET_TAG, size_of(kTagBytes),
                                    tag.data()) == 1,
            "decrypt");
    std::byte none{};
    if (EVP_DecryptFinal_ex(context.get(), raw(&none), &done) != 1) {
      wipe(into);
      wipe(whole);
      throw damaged(
          object_, "It was changed, cut, moved from another place, or encrypted with another key.");
    }
    if (!in_place) std::copy_n(whole.data() + skip, wanted, into.data() + filled);
    filled += wanted;
    at += length + kTagBytes;
  }
}

}  // namespace holdfast::crypto
