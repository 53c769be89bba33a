// Any bytes are either encryption information or an error, and no bytes are an encrypted object
// that was not written as one.

#include <cstdlib>

#include "base/error.h"
#include "collection/encryption.h"
#include "collection/envelope_internal.h"
#include "collection/format.h"
#include "storage/memory_store.h"

namespace {

using namespace holdfast;  // NOLINT(google-build-using-namespace)

void read_info(ByteView stored) {
  try {
    const auto info = collection::decode_encryption_info(stored, "ENCRYPTION-INFO");
    for (const auto& wrapped : info.keys()) {
      if (!wrapped.has_scrypt()) continue;
      const auto& scrypt = wrapped.scrypt();
      const crypto::ScryptCost cost{.n = scrypt.n(), .r = scrypt.r(), .p = scrypt.p()};
      if (cost.acceptable() && cost.n * cost.r * 128 > 256ULL << 20) std::abort();
    }
  } catch (const Error&) {
    // What is expected of bytes that are none.
  }
}

void read_object(ByteView bytes) {
  const Stop stop = Stop::never();
  auto below = std::make_unique<storage::MemoryStore>();
  const storage::ObjectKey key = "2026/11/20-223000.00/data/1.pack";
  below->put(key, bytes, storage::PutMode::OnlyIfAbsent, stop);
  const Bytes secret(crypto::SecretKey::kBytes);
  const auto store = collection::with_keys(
      std::move(below),
      {.chain = {{.full = "2026/11/20-223000.00", .key = crypto::SecretKey(secret)}}, .wal = {}});
  Bytes into(5);
  for (const std::uint64_t offset : {0ULL, 70'000ULL}) {
    try {
      store->get_into(key, offset, into, stop);
      std::abort();  // nobody can make what this key opens
    } catch (const Error&) {
    }
  }
  try {
    get_whole(*store, key, 1 << 20, stop);
  } catch (const Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const ByteView bytes = std::as_bytes(std::span(data, size));
  read_info(bytes);
  // A fuzzer cannot guess the envelope's checksum: the same bytes as protobuf in a right one.
  read_info(collection::seal_envelope(bytes));
  read_object(bytes);
  return 0;
}
