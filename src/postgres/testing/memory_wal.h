#pragma once

#include <cstring>
#include <string>

#include "base/bytes.h"
#include "postgres/wal_reader.h"

namespace holdfast::postgres::testing {

/// WAL kept in memory: `bytes` from WAL position `start` on; nothing else can be read.
inline WalInput memory_input(const Bytes& bytes, Lsn start, std::uint64_t wal_segment_bytes) {
  return [&bytes, start, wal_segment_bytes](std::uint64_t segment, std::uint64_t offset,
                                            MutableByteView out) {
    const std::uint64_t position = segment * wal_segment_bytes + offset;
    if (position < start.value || position - start.value > bytes.size() ||
        bytes.size() - (position - start.value) < out.size()) {
      return false;
    }
    std::memcpy(out.data(), bytes.data() + (position - start.value), out.size());
    return true;
  };
}

}  // namespace holdfast::postgres::testing
