#include <xxhash.h>

#if defined(__x86_64__)
// Picks SSE2, AVX2 or AVX-512 when it runs. Source: libxxhash 0.8.1, xxh_x86dispatch.h.
#include <xxh_x86dispatch.h>
#endif

#include <memory>

#include "base/error.h"
#include "collection/frame.h"
#include "collection/hash_internal.h"

namespace holdfast::collection {

namespace {
struct FreeState {
  void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};
}  // namespace

Hash128 hash128(ByteView bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {.high = hash.high64, .low = hash.low64};
}

Hash128 hash128(ByteView first, ByteView second) {
  const std::unique_ptr<XXH3_state_t, FreeState> state(XXH3_createState());
  if (!state) throw Error(sqlstate::kOutOfMemory, "could not allocate memory for a checksum");
  XXH3_128bits_reset(state.get());
  XXH3_128bits_update(state.get(), first.data(), first.size());
  XXH3_128bits_update(state.get(), second.data(), second.size());
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  return {.high = hash.high64, .low = hash.low64};
}

std::uint64_t hash64(ByteView bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

std::array<std::byte, 16> to_bytes(const Hash128& hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, {hash.low, hash.high});
  std::array<std::byte, 16> bytes{};
  static_assert(sizeof canonical.digest == sizeof bytes);
  std::memcpy(bytes.data(), canonical.digest, bytes.size());
  return bytes;
}

Hash128 hash_from_bytes(ByteView bytes) {
  XXH128_canonical_t canonical;
  std::memcpy(canonical.digest, bytes.data(), sizeof canonical.digest);
  const XXH128_hash_t hash = XXH128_hashFromCanonical(&canonical);
  return {.high = hash.high64, .low = hash.low64};
}

}  // namespace holdfast::collection
