#include "postgres/tablespace_creation.h"

#include <fcntl.h>
#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/error.h"
#include "io/file.h"
#include "postgres/crc32c.h"
#include "postgres/versions.h"
#include "postgres/wal_changes.h"
#include "postgres/wal_format_internal.h"

namespace holdfast::postgres {
namespace {

// Source: PostgreSQL src/include/commands/tablespace.h: the OID, then the path with its zero byte.
constexpr std::uint8_t kTablespaceCreate = 0x00;
constexpr std::size_t kPathOffset = sizeof(std::uint32_t);

}  // namespace

std::optional<TablespaceCreation> parse_tablespace_creation(const WalRecord& record) {
  if (record.resource_manager != rmgr::kTablespace ||
      (record.info & kInfoOwnBits) != kTablespaceCreate) {
    return std::nullopt;
  }
  if (record.main_data.size() <= kPathOffset) {
    throw Error(sqlstate::kDataCorrupted,
                fmt::format("tablespace record at {} is too short", to_string(record.start)));
  }
  TablespaceCreation created;
  created.oid = load<std::uint32_t>(record.main_data, 0);
  std::string_view path = as_text(record.main_data.subspan(kPathOffset));
  if (path.size() > 1 && path.front() == '\0') {
    created.hidden = true;
    path.remove_prefix(1);
  }
  created.location = path.substr(0, path.find('\0'));
  return created;
}

Bytes with_path(const WalRecord& creation, TablespacePath path) {
  const auto created = parse_tablespace_creation(creation);
  HF_ASSERT(created && !created->location.empty());
  if (creation.main_data.size() <= kPathOffset + created->location.size()) {
    throw Error(sqlstate::kDataCorrupted,
                fmt::format("the path in the tablespace record at {} has no end",
                            to_string(creation.start)));
  }
  Bytes bytes(creation.bytes.begin(), creation.bytes.end());
  // The main data is the record's last part. Its zero byte stands before the path or behind it.
  const std::size_t place = bytes.size() - creation.main_data.size() + kPathOffset;
  std::memset(bytes.data() + place, 0, bytes.size() - place);
  const std::size_t from = place + (path == TablespacePath::Hidden ? 1 : 0);
  std::memcpy(bytes.data() + from, created->location.data(), created->location.size());
  const ByteView view = bytes;
  store<std::uint32_t>(
      bytes, kRecordCrcOffset,
      crc32c(view.first(kRecordCrcOffset), crc32c(view.subspan(kRecordHeaderBytes))));
  return bytes;
}

void overwrite_record(io::FileSystem& files, const WalFiles& wal, Lsn start, ByteView bytes) {
  std::uint64_t position = start.value;
  while (!bytes.empty()) {
    const std::uint64_t segment = position / wal.segment_bytes;
    const std::string path =
        fmt::format("{}/{}", wal.directory,
                    wal_segment_name(wal.path.of_segment(segment, wal.segment_bytes), segment,
                                     wal.segment_bytes));
    const UniqueFd fd = io::open_file(files, path, O_WRONLY | O_NOFOLLOW);
    const auto now = static_cast<std::size_t>(
        std::min<std::uint64_t>(bytes.size(), kWalPageBytes - position % kWalPageBytes));
    io::pwrite_all(files, fd.get(), bytes.first(now), position % wal.segment_bytes, path);
    bytes = bytes.subspan(now);
    position += now;
    if (position % kWalPageBytes != 0) continue;
    position += position % wal.segment_bytes == 0 ? kLongHeaderBytes : kShortHeaderBytes;
  }
}

}  // namespace holdfast::postgres
