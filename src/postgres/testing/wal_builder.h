#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "postgres/crc32c.h"
#include "postgres/lsn.h"
#include "postgres/relation_path.h"
#include "postgres/versions.h"

namespace holdfast::postgres::testing {

/// Writes WAL as a server does, one record after the other, from the start of a segment.
class WalBuilder {
 public:
  static constexpr std::uint64_t kPage = 8192;

  WalBuilder(int major, Lsn start, std::uint64_t segment_bytes)
      : major_(major), start_(start), segment_bytes_(segment_bytes) {}

  struct Block {
    RelationLocator relation;
    std::uint32_t block = 0;
    std::size_t data_bytes = 0;
    std::uint8_t id = 0;
  };
  struct Record {
    std::uint8_t resource_manager = 0;
    std::uint8_t info = 0;
    std::vector<Block> blocks{};
    Bytes main_data{};
    std::uint32_t xid = 7;
  };

  /// Returns where it starts.
  Lsn add(const Record& record) {
    Bytes bytes(24);
    std::size_t payload = 0;
    for (const Block& block : record.blocks) {
      append<std::uint8_t>(bytes, block.id);
      append<std::uint8_t>(bytes, block.data_bytes > 0 ? 0x20 : 0x00);
      append<std::uint16_t>(bytes, static_cast<std::uint16_t>(block.data_bytes));
      append<std::uint32_t>(bytes, block.relation.tablespace);
      append<std::uint32_t>(bytes, block.relation.database);
      append<std::uint32_t>(bytes, block.relation.relation);
      append<std::uint32_t>(bytes, block.block);
      payload += block.data_bytes;
    }
    if (record.main_data.size() > 255) {
      append<std::uint8_t>(bytes, 254);
      append<std::uint32_t>(bytes, static_cast<std::uint32_t>(record.main_data.size()));
    } else if (!record.main_data.empty()) {
      append<std::uint8_t>(bytes, 255);
      append<std::uint8_t>(bytes, static_cast<std::uint8_t>(record.main_data.size()));
    }
    bytes.resize(bytes.size() + payload, std::byte{0x5A});
    bytes.insert(bytes.end(), record.main_data.begin(), record.main_data.end());
    store<std::uint32_t>(bytes, 0, static_cast<std::uint32_t>(bytes.size()));
    store<std::uint32_t>(bytes, 4, record.xid);
    store<std::uint64_t>(bytes, 8, previous_);
    store<std::uint8_t>(bytes, 16, record.info);
    store<std::uint8_t>(bytes, 17, record.resource_manager);
    const ByteView view = bytes;
    store<std::uint32_t>(bytes, 20, crc32c(view.first(20), crc32c(view.subspan(24))));
    return put(bytes);
  }

  /// The server crashed while it wrote a record of which `kept` pages are there: what follows
  /// begins on the next page.
  void add_lost(const Record& record) {
    const std::uint64_t previous = previous_;
    const std::size_t before = bytes_.size();
    add(record);
    bytes_.resize((before / kPage + 1) * kPage);
    previous_ = previous;
    overwrite_ = true;
  }

  /// The rest of the segment stays unused.
  Lsn add_switch() {
    const Lsn start = add({.resource_manager = 0, .info = 0x40});
    bytes_.resize((bytes_.size() + segment_bytes_ - 1) / segment_bytes_ * segment_bytes_);
    return start;
  }

  Lsn position() const { return Lsn{start_.value + bytes_.size()}; }
  /// All of it, filled up to whole segments.
  Bytes whole_segments() const {
    Bytes all = bytes_;
    all.resize((all.size() + segment_bytes_ - 1) / segment_bytes_ * segment_bytes_);
    return all;
  }

 private:
  template <typename T>
  static void append(Bytes& bytes, T value) {
    bytes.resize(bytes.size() + sizeof value);
    store(bytes, bytes.size() - sizeof value, value);
  }

  Lsn put(const Bytes& record) {
    bytes_.resize((bytes_.size() + 7) / 8 * 8);
    std::size_t done = 0;
    Lsn start;
    while (done < record.size()) {
      if (bytes_.size() % kPage == 0) begin_page(done == 0 ? 0 : record.size() - done);
      if (done == 0) start = Lsn{start_.value + bytes_.size()};
      const std::size_t room = kPage - bytes_.size() % kPage;
      const std::size_t now = std::min(room, record.size() - done);
      bytes_.insert(bytes_.end(), record.begin() + static_cast<std::ptrdiff_t>(done),
                    record.begin() + static_cast<std::ptrdiff_t>(done + now));
      done += now;
    }
    previous_ = start.value;
    return start;
  }

  void begin_page(std::size_t remaining) {
    const std::uint64_t position = start_.value + bytes_.size();
    const bool first = position % segment_bytes_ == 0;
    Bytes header(first ? 40 : 24);
    std::uint16_t flags = first ? 0x0002 : 0x0000;
    if (remaining > 0) flags |= 0x0001;
    if (overwrite_) flags |= 0x0008;
    overwrite_ = false;
    store<std::uint16_t>(header, 0, version_facts(major_).wal_page_magic);
    store<std::uint16_t>(header, 2, flags);
    store<std::uint32_t>(header, 4, 1U);
    store<std::uint64_t>(header, 8, position);
    store<std::uint32_t>(header, 16, static_cast<std::uint32_t>(remaining));
    if (first) {
      store<std::uint32_t>(header, 32, static_cast<std::uint32_t>(segment_bytes_));
      store<std::uint32_t>(header, 36, static_cast<std::uint32_t>(kPage));
    }
    bytes_.insert(bytes_.end(), header.begin(), header.end());
  }

  int major_;
  Lsn start_;
  std::uint64_t segment_bytes_;
  Bytes bytes_;
  std::uint64_t previous_ = 0;
  bool overwrite_ = false;
};

}  // namespace holdfast::postgres::testing
