#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

#include "net/stream.h"

namespace holdfast::pgwire {

/// A stream whose peer has said everything in advance: gives the bytes in pieces of a chosen size,
/// then ends. Never waits, so that a session can be driven without sockets.
class MemoryStream : public net::Stream {
 public:
  explicit MemoryStream(std::string incoming, std::size_t piece = SIZE_MAX)
      : incoming_(std::move(incoming)), piece_(std::max<std::size_t>(piece, 1)) {}

  std::optional<std::size_t> try_read(MutableByteView into) override {
    const std::size_t count = std::min({into.size(), piece_, incoming_.size() - at_});
    std::memcpy(into.data(), incoming_.data() + at_, count);
    at_ += count;
    return count;
  }
  std::optional<std::size_t> read_soon(MutableByteView into) override { return try_read(into); }
  std::size_t try_write(ByteView bytes) override {
    written_.append(as_text(bytes));
    return bytes.size();
  }
  void write_all(ByteView bytes) override { try_write(bytes); }
  bool buffered() const override { return true; }
  int fd() const override { return -1; }
  bool encrypted() const override { return false; }

  const std::string& written() const { return written_; }

 private:
  std::string incoming_;
  std::size_t piece_;
  std::size_t at_ = 0;
  std::string written_;
};

}  // namespace holdfast::pgwire
