#pragma once

#include <cstddef>
#include <cstring>
#include <memory>

#include "base/bytes.h"

namespace holdfast::pgwire {

/// Bytes that were read from a stream and not yet used. The memory is allocated once and not
/// cleared; it grows only for a single message that must be seen whole.
class ReadBuffer {
 public:
  static constexpr std::size_t kBytes = 64 * 1024;

  ByteView data() const { return {memory_.get() + begin_, end_ - begin_}; }
  std::size_t size() const { return end_ - begin_; }
  bool empty() const { return begin_ == end_; }

  void consume(std::size_t count) {
    begin_ += count;
    if (begin_ == end_) reset();
  }

  /// Where to read to; never empty. What data() returned before is then invalid.
  MutableByteView space() {
    if (!memory_) allocate(kBytes);
    if (end_ == capacity_) make_room(capacity_ + 1);
    return {memory_.get() + end_, capacity_ - end_};
  }
  void added(std::size_t count) { end_ += count; }

  /// Makes room for `total` bytes counted from the start of data().
  void reserve(std::size_t total) {
    if (!memory_) allocate(total < kBytes ? kBytes : total);
    if (begin_ + total > capacity_) make_room(begin_ + total);
  }

 private:
  void allocate(std::size_t capacity) {
    // Not make_unique, which would clear it.
    memory_.reset(new std::byte[capacity]);
    capacity_ = capacity;
  }
  void reset() {
    begin_ = end_ = 0;
    if (capacity_ > kBytes) allocate(kBytes);  // a large message was here
  }
  /// So that data() could reach up to offset `needed` of today's memory.
  void make_room(std::size_t needed) {
    const std::size_t used = size();
    const std::size_t wanted = needed - begin_;
    if (wanted > capacity_) {
      auto old = std::move(memory_);
      const std::size_t capacity = wanted < 2 * capacity_ ? 2 * capacity_ : wanted;
      allocate(capacity);
      std::memcpy(memory_.get(), old.get() + begin_, used);
    } else {
      std::memmove(memory_.get(), memory_.get() + begin_, used);
    }
    begin_ = 0;
    end_ = used;
  }

  std::unique_ptr<std::byte[]> memory_;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace holdfast::pgwire
