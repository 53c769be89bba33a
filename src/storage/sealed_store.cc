#include "storage/sealed_store.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "storage/keys.h"

namespace holdfast::storage {

using crypto::SealedStream;

namespace {

/// What is remembered of so many objects; beyond, it begins anew.
constexpr std::size_t kMostKnown = 4096;
/// So many buffers stay for the next objects: as many as threads usually put at once.
constexpr std::size_t kMostBuffers = 4;

Error damaged(const ObjectKey& key, std::string_view why) {
  return Error(sqlstate::kDataCorrupted, fmt::format("could not decrypt object \"{}\"", key))
      .detail(std::string(why));
}

}  // namespace

/// A buffer for as long as one call needs it.
class SealedStore::Borrowed {
 public:
  Borrowed(SealedStore& store, std::size_t size) : store_(store), size_(size) {
    {
      const MutexLock lock(store_.mutex_);
      const auto found = std::ranges::find_if(
          store_.buffers_, [&](const Buffer& buffer) { return buffer.size() >= size; });
      if (found != store_.buffers_.end()) {
        buffer_.emplace(std::move(*found));
        store_.buffers_.erase(found);
        return;
      }
    }
    buffer_.emplace(size);
  }
  ~Borrowed() {
    const MutexLock lock(store_.mutex_);
    store_.buffers_.push_back(std::move(*buffer_));
    if (store_.buffers_.size() <= kMostBuffers) return;
    // The smallest serves the fewest.
    store_.buffers_.erase(std::ranges::min_element(store_.buffers_, {}, &Buffer::size));
  }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;

  MutableByteView bytes() const { return buffer_->view().first(size_); }

 private:
  SealedStore& store_;
  const std::size_t size_;
  std::optional<Buffer> buffer_;
};

PutResult SealedStore::put(const ObjectKey& key, ByteView bytes, PutMode mode, const Stop& stop) {
  check_key(key);
  const crypto::SecretKey* secret = keys_(key);
  if (secret == nullptr) return store_->put(key, bytes, mode, stop);
  stop.check();
  const std::uint64_t size = crypto::sealed_size(bytes.size());
  if (size > kMaxObjectBytes) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("object \"{}\" of {} bytes is larger than the {} allowed", key, size,
                            kMaxObjectBytes));
  }
  const Borrowed sealed(*this, size);
  crypto::seal_stream(*secret, key, bytes, sealed.bytes());
  forget(key);
  return store_->put(key, sealed.bytes(), mode, stop);
}

bool SealedStore::get_into(const ObjectKey& key, std::uint64_t offset, MutableByteView into,
                           const Stop& stop) {
  check_key(key);
  const crypto::SecretKey* secret = keys_(key);
  if (secret == nullptr) return store_->get_into(key, offset, into, stop);
  const Known before = known(key);
  if (before.stream) {
    try {
      return read(key, *before.stream, offset, into, stop);
    } catch (const Error& error) {
      if (error.state() != sqlstate::kDataCorrupted) throw;
      // An object that was removed and put again has another header.
      forget(key);
    }
  } else if (offset == 0 && before.sealed_bytes) {
    const auto done = read_beginning(key, *secret, *before.sealed_bytes, into, stop);
    if (done) return *done;
  }
  const Stream stream = read_header(key, *secret, stop);
  return stream && read(key, *stream, offset, into, stop);
}

SealedStore::Stream SealedStore::read_header(const ObjectKey& key, const crypto::SecretKey& secret,
                                             const Stop& stop) {
  std::byte header[crypto::kSealedHeaderBytes];
  try {
    if (!store_->get_into(key, 0, header, stop)) return nullptr;
  } catch (const Error& error) {
    if (error.state() != sqlstate::kDataCorrupted) throw;
    throw damaged(key, "It does not appear to be encrypted: it is too short.");
  }
  auto stream = std::make_shared<const SealedStream>(secret, key, header, key);
  remember(key, {.sealed_bytes = std::nullopt, .stream = stream});
  return stream;
}

bool SealedStore::read(const ObjectKey& key, const SealedStream& stream, std::uint64_t offset,
                       MutableByteView into, const Stop& stop) {
  if (offset > stream.plain_bytes() || into.size() > stream.plain_bytes() - offset) {
    // Also when only the header says so.
    throw too_short(key, offset, into.size());
  }
  const auto extent = stream.chunks_of(offset, into.size());
  const Borrowed chunks(*this, extent.length);
  if (!store_->get_into(key, extent.offset, chunks.bytes(), stop)) return false;
  stream.open(offset, chunks.bytes(), into);
  return true;
}

std::optional<bool> SealedStore::read_beginning(const ObjectKey& key,
                                                const crypto::SecretKey& secret,
                                                std::uint64_t sealed_bytes, MutableByteView into,
                                                const Stop& stop) {
  const auto plain_bytes = crypto::plain_size(sealed_bytes);
  if (!plain_bytes || into.size() > *plain_bytes) return std::nullopt;
  // As many chunks as hold `into`, and the header before them.
  const std::uint64_t chunks = std::max<std::uint64_t>(
      (into.size() + crypto::kSealedChunkBytes - 1) / crypto::kSealedChunkBytes, 1);
  const std::uint64_t length =
      crypto::sealed_size(std::min(chunks * crypto::kSealedChunkBytes, *plain_bytes));
  const Borrowed sealed(*this, length);
  if (!store_->get_into(key, 0, sealed.bytes(), stop)) return false;
  const ByteView bytes = sealed.bytes();
  const auto stream = std::make_shared<const SealedStream>(
      secret, key, bytes.first(crypto::kSealedHeaderBytes), key);
  if (stream->plain_bytes() != *plain_bytes) {
    throw damaged(key, "Its size is not the one that it says it has.");
  }
  const auto extent = stream->chunks_of(0, into.size());
  stream->open(0, bytes.subspan(extent.offset, extent.length), into);
  remember(key, {.sealed_bytes = sealed_bytes, .stream = stream});
  return true;
}

std::optional<ObjectInfo> SealedStore::stat(const ObjectKey& key, const Stop& stop) {
  auto info = store_->stat(key, stop);
  if (!info || keys_(key) == nullptr) return info;
  const auto plain_bytes = crypto::plain_size(info->size);
  if (!plain_bytes) {
    throw damaged(key, fmt::format("No encrypted object has {} bytes.", info->size));
  }
  Known what = known(key);
  if (what.stream && what.stream->plain_bytes() != *plain_bytes) what.stream = nullptr;
  what.sealed_bytes = info->size;
  remember(key, what);
  info->size = *plain_bytes;
  return info;
}

void SealedStore::list(const ObjectKey& prefix, const std::function<void(const ObjectInfo&)>& visit,
                       const Stop& stop) {
  store_->list(
      prefix,
      [&](const ObjectInfo& info) {
        if (keys_(info.key) == nullptr) return visit(info);
        visit({.key = info.key, .size = crypto::plain_size(info.size).value_or(info.size)});
      },
      stop);
}

void SealedStore::remove(const ObjectKey& key, const Stop& stop) {
  forget(key);
  store_->remove(key, stop);
}

SealedStore::Known SealedStore::known(const ObjectKey& key) const {
  const MutexLock lock(mutex_);
  const auto found = known_.find(key);
  return found == known_.end() ? Known() : found->second;
}

void SealedStore::remember(const ObjectKey& key, const Known& what) {
  const MutexLock lock(mutex_);
  if (known_.size() >= kMostKnown && !known_.contains(key)) known_.clear();
  known_[key] = what;
}

void SealedStore::forget(const ObjectKey& key) {
  const MutexLock lock(mutex_);
  known_.erase(key);
}

}  // namespace holdfast::storage
