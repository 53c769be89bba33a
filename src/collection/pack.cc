#include "collection/pack.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.h"
#include "base/error.h"
#include "collection/envelope_internal.h"
#include "collection/format.h"
#include "collection/hash_internal.h"
#include "collection/pack_internal.h"

namespace holdfast::collection {

namespace {

using storage::ObjectKey;
using storage::ObjectStore;

// Offsets in the header.
constexpr std::size_t kHeaderVersionAt = 8;
constexpr std::size_t kHeaderNumberAt = 12;
constexpr std::size_t kHeaderUuidAt = 16;

// Offsets in an index entry. Bytes 26 to 31 are zero, and so are the bitmap's of a whole frame.
constexpr std::size_t kFileIdAt = 0;
constexpr std::size_t kFrameAt = 4;
constexpr std::size_t kOffsetAt = 8;
constexpr std::size_t kStoredBytesAt = 16;
constexpr std::size_t kPlainBytesAt = 20;
constexpr std::size_t kCodecAt = 24;
constexpr std::size_t kFlagsAt = 25;
constexpr std::size_t kEntryHashAt = 32;
constexpr std::size_t kBitmapAt = 48;

/// Flag: the frame holds only the blocks of the bitmap.
constexpr std::uint8_t kPartialFlag = 1;

// Offsets in the trailer.
constexpr std::size_t kIndexOffsetAt = 0;
constexpr std::size_t kIndexBytesAt = 8;
constexpr std::size_t kCountAt = 12;
constexpr std::size_t kIndexHashAt = 16;
constexpr std::size_t kUuidAt = 32;
constexpr std::size_t kNumberAt = 48;
constexpr std::size_t kVersionAt = 52;
constexpr std::size_t kCheckAt = 56;
constexpr std::size_t kEndMagicAt = 64;

/// Room for the index and the trailer of a pack of a few thousand frames.
constexpr std::size_t kIndexRoomBytes = 256U << 10;

struct Trailer {
  std::uint64_t index_offset = 0;
  std::uint32_t index_bytes = 0;
  std::uint32_t count = 0;
  Hash128 index_hash;
  BackupUuid uuid{};
  std::uint32_t number = 0;
  std::uint32_t version = kPlainFormatVersion;
};

Error corrupt(std::string_view object, std::string_view why) {
  return Error(sqlstate::kDataCorrupted, fmt::format("pack \"{}\" is corrupt", object))
      .detail(std::string(why));
}

Error missing(const ObjectStore& store, const ObjectKey& key) {
  return Error(sqlstate::kUndefinedFile,
               fmt::format("pack \"{}\" does not exist in \"{}\"", key, store.description()));
}

void check_pack_size(std::uint64_t bytes, std::string_view object) {
  if (bytes < kPackHeaderBytes + kPackTrailerBytes || bytes > storage::kMaxObjectBytes) {
    throw corrupt(object, fmt::format("Its size of {} bytes is no pack's.", bytes));
  }
}

void write_entry(const FrameEntry& entry, MutableByteView into) {
  std::fill(into.begin(), into.end(), std::byte{0});
  store<std::uint32_t>(into, kFileIdAt, entry.file_id);
  store<std::uint32_t>(into, kFrameAt, entry.frame);
  store<std::uint64_t>(into, kOffsetAt, entry.offset);
  store<std::uint32_t>(into, kStoredBytesAt, entry.stored_bytes);
  store<std::uint32_t>(into, kPlainBytesAt, entry.plain_bytes);
  store<std::uint8_t>(into, kCodecAt, static_cast<std::uint8_t>(entry.codec));
  const auto hash = to_bytes(entry.hash);
  std::copy(hash.begin(), hash.end(), into.begin() + kEntryHashAt);
  if (!entry.partial) return;
  store<std::uint8_t>(into, kFlagsAt, kPartialFlag);
  const FrameBlocks half = FrameBlocks(~0ULL);
  store<std::uint64_t>(into, kBitmapAt, (entry.partial_blocks & half).to_ullong());
  store<std::uint64_t>(into, kBitmapAt + 8, (entry.partial_blocks >> 64).to_ullong());
}

/// Absent when the bytes cannot be an entry that this version writes.
std::optional<FrameEntry> read_entry(ByteView bytes, std::uint32_t version) {
  FrameEntry entry;
  entry.file_id = load<std::uint32_t>(bytes, kFileIdAt);
  entry.frame = load<std::uint32_t>(bytes, kFrameAt);
  entry.offset = load<std::uint64_t>(bytes, kOffsetAt);
  entry.stored_bytes = load<std::uint32_t>(bytes, kStoredBytesAt);
  entry.plain_bytes = load<std::uint32_t>(bytes, kPlainBytesAt);
  const auto codec = load<std::uint8_t>(bytes, kCodecAt);
  entry.codec = static_cast<Codec>(codec);
  entry.hash = hash_from_bytes(bytes.subspan(kEntryHashAt));
  const bool lengths_agree = entry.codec == Codec::Zero ? entry.stored_bytes == 0
                             : entry.codec == Codec::None
                                 ? entry.stored_bytes == entry.plain_bytes
                                 : entry.stored_bytes > 0 && entry.stored_bytes < entry.plain_bytes;
  if (codec > static_cast<std::uint8_t>(Codec::Zero) || entry.plain_bytes == 0 ||
      entry.plain_bytes > kFrameBytes || !lengths_agree) {
    return std::nullopt;
  }
  const auto flags = load<std::uint8_t>(bytes, kFlagsAt);
  if (flags == 0 || version == kPlainFormatVersion) return entry;
  entry.partial = true;
  entry.partial_blocks = FrameBlocks(load<std::uint64_t>(bytes, kBitmapAt)) |
                         FrameBlocks(load<std::uint64_t>(bytes, kBitmapAt + 8)) << 64;
  if (flags != kPartialFlag || entry.partial_blocks.count() * kBlockBytes != entry.plain_bytes) {
    return std::nullopt;
  }
  return entry;
}

void write_trailer(const Trailer& trailer, MutableByteView into) {
  store<std::uint64_t>(into, kIndexOffsetAt, trailer.index_offset);
  store<std::uint32_t>(into, kIndexBytesAt, trailer.index_bytes);
  store<std::uint32_t>(into, kCountAt, trailer.count);
  const auto hash = to_bytes(trailer.index_hash);
  std::copy(hash.begin(), hash.end(), into.begin() + kIndexHashAt);
  std::copy(trailer.uuid.begin(), trailer.uuid.end(), into.begin() + kUuidAt);
  store<std::uint32_t>(into, kNumberAt, trailer.number);
  store<std::uint32_t>(into, kVersionAt, trailer.version);
  store<std::uint64_t>(into, kCheckAt, hash64(into.first(kCheckAt)));
  std::copy_n(as_bytes(kPackEndMagic).begin(), kPackEndMagic.size(), into.begin() + kEndMagicAt);
}

Trailer read_trailer(ByteView bytes, std::uint64_t pack_bytes, std::string_view object) {
  if (as_text(bytes.subspan(kEndMagicAt, kPackEndMagic.size())) != kPackEndMagic) {
    throw corrupt(object, "It does not end as a pack does.");
  }
  if (hash64(bytes.first(kCheckAt)) != load<std::uint64_t>(bytes, kCheckAt)) {
    throw corrupt(object, "The checksum of its trailer does not match.");
  }
  Trailer trailer;
  trailer.version = load<std::uint32_t>(bytes, kVersionAt);
  check_version(trailer.version, object);
  trailer.index_offset = load<std::uint64_t>(bytes, kIndexOffsetAt);
  trailer.index_bytes = load<std::uint32_t>(bytes, kIndexBytesAt);
  trailer.count = load<std::uint32_t>(bytes, kCountAt);
  trailer.index_hash = hash_from_bytes(bytes.subspan(kIndexHashAt));
  std::copy_n(bytes.begin() + kUuidAt, trailer.uuid.size(), trailer.uuid.begin());
  trailer.number = load<std::uint32_t>(bytes, kNumberAt);
  if (trailer.index_offset < kPackHeaderBytes || trailer.index_offset > pack_bytes ||
      trailer.index_offset + trailer.index_bytes + kPackTrailerBytes != pack_bytes ||
      trailer.count > kMaxPackFrames) {
    throw corrupt(object, "The lengths in its trailer do not agree.");
  }
  return trailer;
}

std::vector<FrameEntry> read_entries(ByteView stored, const Trailer& trailer,
                                     std::string_view object) {
  if (hash128(stored) != trailer.index_hash) {
    throw corrupt(object, "The checksum of its index does not match.");
  }
  const std::optional<Bytes> plain =
      decompress_block(stored, std::uint64_t{trailer.count} * kPackEntryBytes);
  if (!plain) throw corrupt(object, "Its index cannot be unpacked.");
  std::vector<FrameEntry> entries;
  entries.reserve(trailer.count);
  // Frames fill the pack from header to index without gaps, so that every byte of it is covered by
  // some checksum and no two frames can overlap.
  std::uint64_t expected_offset = kPackHeaderBytes;
  for (std::uint32_t i = 0; i < trailer.count; ++i) {
    const std::optional<FrameEntry> entry =
        read_entry(ByteView(*plain).subspan(std::size_t{i} * kPackEntryBytes, kPackEntryBytes),
                   trailer.version);
    if (!entry || entry->offset != expected_offset) {
      throw corrupt(object, fmt::format("Entry {} of its index is wrong.", i));
    }
    expected_offset += entry->stored_bytes;
    entries.push_back(*entry);
  }
  if (expected_offset != trailer.index_offset) {
    throw corrupt(object, "Its frames do not reach its index.");
  }
  return entries;
}

PackSummary summarize(const Trailer& trailer, std::uint64_t pack_bytes,
                      const std::vector<FrameEntry>& entries) {
  PackSummary summary{.number = trailer.number,
                      .size = pack_bytes,
                      .index_offset = trailer.index_offset,
                      .index_hash = trailer.index_hash,
                      .frames = trailer.count,
                      .plain_bytes = 0,
                      .first_file = 0,
                      .last_file = 0};
  for (const FrameEntry& entry : entries) {
    summary.plain_bytes += entry.plain_bytes;
    summary.first_file =
        summary.first_file == 0 ? entry.file_id : std::min(summary.first_file, entry.file_id);
    summary.last_file = std::max(summary.last_file, entry.file_id);
  }
  return summary;
}

}  // namespace

PackBuilder::PackBuilder() : PackBuilder(kPackTargetBytes + kIndexRoomBytes) {}

PackBuilder::PackBuilder(std::size_t buffer_bytes)
    : buffer_(std::max<std::size_t>(buffer_bytes, kPackHeaderBytes)) {}

void PackBuilder::reset(std::uint32_t number, const BackupUuid& uuid) {
  number_ = number;
  uuid_ = uuid;
  plain_bytes_ = 0;
  entries_.clear();
  const MutableByteView header(buffer_.data(), kPackHeaderBytes);
  std::copy_n(as_bytes(kPackMagic).begin(), kPackMagic.size(), header.begin());
  store<std::uint32_t>(header, kHeaderNumberAt, number);
  std::copy(uuid.begin(), uuid.end(), header.begin() + kHeaderUuidAt);
  used_ = kPackHeaderBytes;
}

bool PackBuilder::full_for(const FrameEncoder& encoder, std::size_t plain_bytes) const {
  return entries_.size() >= kMaxPackFrames || used_ + encoder.bound(plain_bytes) > kPackTargetBytes;
}

const FrameEntry& PackBuilder::add(FrameEncoder& encoder, std::uint32_t file_id,
                                   std::uint32_t frame, ByteView plain) {
  FrameEntry entry;
  entry.file_id = file_id;
  entry.frame = frame;
  return append(encoder, entry, plain);
}

const FrameEntry& PackBuilder::add_partial(FrameEncoder& encoder, std::uint32_t file_id,
                                           std::uint32_t frame, const FrameBlocks& blocks,
                                           ByteView plain) {
  HF_ASSERT(blocks.any() && blocks.count() * kBlockBytes == plain.size());
  FrameEntry entry;
  entry.file_id = file_id;
  entry.frame = frame;
  entry.partial = true;
  entry.partial_blocks = blocks;
  return append(encoder, entry, plain);
}

const FrameEntry& PackBuilder::append(FrameEncoder& encoder, FrameEntry entry, ByteView plain) {
  HF_ASSERT(used_ >= kPackHeaderBytes && entries_.size() < kMaxPackFrames);
  // WAL objects go past the target: they hold a whole part whatever it packs to.
  const std::size_t bound = encoder.bound(plain.size());
  if (used_ + bound > buffer_.size()) {
    buffer_.grow(std::max(used_ + bound, buffer_.size() * 2), used_);
  }
  entry.offset = used_;
  encoder.encode(plain, buffer_.view().subspan(used_), entry);
  used_ += entry.stored_bytes;
  plain_bytes_ += entry.plain_bytes;
  entries_.push_back(entry);
  return entries_.back();
}

std::uint32_t PackBuilder::version() const {
  const bool partial = std::ranges::any_of(entries_, &FrameEntry::partial);
  return partial ? kChainFormatVersion : kPlainFormatVersion;
}

PackSummary PackBuilder::finish() {
  store<std::uint32_t>({buffer_.data(), kPackHeaderBytes}, kHeaderVersionAt, version());
  Bytes plain(entries_.size() * kPackEntryBytes);
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    write_entry(entries_[i], MutableByteView(plain).subspan(i * kPackEntryBytes, kPackEntryBytes));
  }
  const Bytes index = compress_block(plain);
  const Trailer trailer{.index_offset = used_,
                        .index_bytes = static_cast<std::uint32_t>(index.size()),
                        .count = static_cast<std::uint32_t>(entries_.size()),
                        .index_hash = hash128(index),
                        .uuid = uuid_,
                        .number = number_,
                        .version = version()};
  const std::size_t whole = used_ + index.size() + kPackTrailerBytes;
  buffer_.grow(whole, used_);
  std::copy(index.begin(), index.end(), buffer_.data() + used_);
  write_trailer(trailer, buffer_.view().subspan(used_ + index.size(), kPackTrailerBytes));
  used_ = whole;
  return summarize(trailer, whole, entries_);
}

std::vector<FrameEntry> read_pack_index(ObjectStore& store, const ObjectKey& key,
                                        const PackSummary& summary, const BackupUuid& uuid,
                                        const Stop& stop) {
  if (summary.size > storage::kMaxObjectBytes || summary.index_offset < kPackHeaderBytes ||
      summary.index_offset + kPackTrailerBytes > summary.size) {
    throw corrupt(key, "The manifest's lengths of it do not agree.");
  }
  Bytes end(summary.size - summary.index_offset);
  if (!store.get_into(key, summary.index_offset, end, stop)) throw missing(store, key);
  const ByteView view(end);
  const Trailer trailer = read_trailer(view.last(kPackTrailerBytes), summary.size, key);
  if (trailer.index_offset != summary.index_offset || trailer.index_hash != summary.index_hash ||
      trailer.count != summary.frames) {
    throw corrupt(key, "It is not what the manifest says.");
  }
  if (trailer.uuid != uuid || trailer.number != summary.number) {
    throw corrupt(key, "It belongs to another backup or has another number.");
  }
  return read_entries(view.first(trailer.index_bytes), trailer, key);
}

OpenedPack open_pack(ObjectStore& store, const ObjectKey& key, const Stop& stop) {
  const std::optional<storage::ObjectInfo> info = store.stat(key, stop);
  if (!info) throw missing(store, key);
  check_pack_size(info->size, key);
  Bytes end(kPackTrailerBytes);
  if (!store.get_into(key, info->size - end.size(), end, stop)) throw missing(store, key);
  const Trailer trailer = read_trailer(end, info->size, key);
  Bytes index(trailer.index_bytes);
  if (!store.get_into(key, trailer.index_offset, index, stop)) throw missing(store, key);
  OpenedPack opened;
  opened.entries = read_entries(index, trailer, key);
  opened.summary = summarize(trailer, info->size, opened.entries);
  opened.uuid = trailer.uuid;
  return opened;
}

OpenedPack parse_pack(ByteView pack, std::string_view object) {
  check_pack_size(pack.size(), object);
  const Trailer trailer = read_trailer(pack.last(kPackTrailerBytes), pack.size(), object);
  OpenedPack opened;
  opened.entries =
      read_entries(pack.subspan(trailer.index_offset, trailer.index_bytes), trailer, object);
  opened.summary = summarize(trailer, pack.size(), opened.entries);
  opened.uuid = trailer.uuid;
  return opened;
}

void check_pack_header(ByteView header, std::uint32_t number, const BackupUuid& uuid,
                       std::string_view object) {
  if (as_text(header.first(kPackMagic.size())) != kPackMagic) {
    throw corrupt(object, "It does not begin as a pack does.");
  }
  check_version(load<std::uint32_t>(header, kHeaderVersionAt), object);
  if (load<std::uint32_t>(header, kHeaderNumberAt) != number ||
      !std::equal(uuid.begin(), uuid.end(), header.begin() + kHeaderUuidAt)) {
    throw corrupt(object, "It belongs to another backup or has another number.");
  }
}

}  // namespace holdfast::collection
