// Any bytes are either a pack or an error: index, trailer, header and all frames.

#include "base/error.h"
#include "collection/format.h"
#include "collection/pack.h"
#include "collection/pack_internal.h"
#include "storage/memory_store.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace holdfast;  // NOLINT(google-build-using-namespace)
  const ByteView bytes = std::as_bytes(std::span(data, size));
  const Stop stop = Stop::never();
  storage::MemoryStore store;
  store.put("pack", bytes, storage::PutMode::OnlyIfAbsent, stop);
  try {
    const collection::OpenedPack pack = collection::open_pack(store, "pack", stop);
    collection::check_pack_header(bytes, pack.summary.number, pack.uuid, "pack");
    collection::FrameDecoder decoder;
    for (const collection::FrameEntry& entry : pack.entries) {
      Bytes plain(entry.plain_bytes);
      decoder.decode(entry, bytes.subspan(entry.offset, entry.stored_bytes), plain, "pack");
    }
  } catch (const Error&) {
    // What is expected of bytes that are no pack.
  }
  // The frames alone: a fuzzer cannot guess the checksum that guards them in a pack.
  if (size < 8) return 0;
  collection::FrameEntry entry;
  entry.codec = static_cast<collection::Codec>(data[0] % 5);
  entry.plain_bytes = load<std::uint32_t>(bytes, 1) % collection::kFrameBytes;
  const ByteView stored = bytes.subspan(5);
  entry.stored_bytes = static_cast<std::uint32_t>(stored.size());
  try {
    Bytes plain(entry.plain_bytes);
    collection::FrameDecoder().decode(entry, stored, plain, "pack");
  } catch (const Error&) {
  }
  return 0;
}
