#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace holdfast::postgres {

/// CRC-32C (Castagnoli), the checksum of WAL records, pg_control and relation maps. Continues from
/// `crc`, the result for the bytes before (0 for none). Uses SSE 4.2 where the processor has it.
/// Source: PostgreSQL src/include/port/pg_crc32c.h.
std::uint32_t crc32c(ByteView bytes, std::uint32_t crc = 0);

/// The table-driven way, for processors without the instruction; public for its test.
std::uint32_t crc32c_portable(ByteView bytes, std::uint32_t crc = 0);

}  // namespace holdfast::postgres
