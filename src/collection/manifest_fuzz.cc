// Any bytes are either a manifest or an error: the envelope, and the protobuf in an intact one.

#include "base/error.h"
#include "collection/collection.h"
#include "collection/envelope_internal.h"
#include "collection/format.h"
#include "collection/manifest_internal.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace holdfast;  // NOLINT(google-build-using-namespace)
  const ByteView bytes = std::as_bytes(std::span(data, size));
  try {
    collection::decode_manifest(bytes, "manifest");
  } catch (const Error&) {
    // What is expected of bytes that are no manifest.
  }
  // A fuzzer cannot guess the envelope's checksum: the same bytes as protobuf in a right one.
  try {
    const auto manifest = collection::decode_manifest(
        collection::seal_envelope(bytes, collection::kFormatVersion), "manifest");
    collection::manifest_to_json(manifest);
    for (const auto& pack : manifest.packs()) collection::summary_of(pack);
  } catch (const Error&) {
  }
  // And as compressed content of whatever length it claims.
  if (size >= 8) collection::decompress_block(bytes.subspan(8), load<std::uint64_t>(bytes, 0));
  return 0;
}
