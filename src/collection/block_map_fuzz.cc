// Any bytes are either a block map or an error: in the envelope, and inside an intact one.

#include "base/assert.h"
#include "base/error.h"
#include "collection/block_map.h"
#include "collection/envelope_internal.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace holdfast;  // NOLINT(google-build-using-namespace)
  const ByteView bytes = std::as_bytes(std::span(data, size));
  try {
    collection::parse_block_map(bytes, "map");
  } catch (const Error&) {
    // What is expected of bytes that are no map.
  }
  // A fuzzer cannot guess the envelope's checksum.
  try {
    const auto map = collection::parse_block_map(collection::seal_envelope(bytes), "map");
    const Bytes again = collection::serialize(map);
    const auto same = collection::parse_block_map(again, "map");
    HF_ASSERT(same.coverage() == map.coverage());
    HF_ASSERT(collection::serialize(same) == again);
    collection::BlockMap merged = map;
    merged.merge(same);
    HF_ASSERT(collection::serialize(merged) == again);
  } catch (const Error&) {
  }
  return 0;
}
