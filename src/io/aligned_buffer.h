#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "base/bytes.h"

namespace holdfast::io {

/// What direct I/O (O_DIRECT) needs memory, offsets and lengths to be a multiple of, on every
/// device in use: the page size, and the largest common logical sector.
inline constexpr std::size_t kDirectAlignment = 4096;

/// Memory that begins at a multiple of kDirectAlignment and is not cleared.
class AlignedBuffer {
 public:
  explicit AlignedBuffer(std::size_t bytes) : memory_(allocate(bytes)), size_(bytes) {}

  std::byte* data() const { return memory_.get(); }
  std::size_t size() const { return size_; }
  MutableByteView view() const { return {data(), size_}; }

  /// Makes it at least `bytes` long; the first `used` bytes stay.
  void grow(std::size_t bytes, std::size_t used) {
    if (bytes <= size_) return;
    Memory larger = allocate(bytes);
    std::memcpy(larger.get(), memory_.get(), used);
    memory_ = std::move(larger);
    size_ = bytes;
  }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  using Memory = std::unique_ptr<std::byte, Free>;

  static Memory allocate(std::size_t bytes) {
    // aligned_alloc wants a whole number of alignments.
    const std::size_t whole = (bytes / kDirectAlignment + 1) * kDirectAlignment;
    Memory memory(static_cast<std::byte*>(std::aligned_alloc(kDirectAlignment, whole)));
    if (!memory) throw std::bad_alloc();
    return memory;
  }

  Memory memory_;
  std::size_t size_;
};

}  // namespace holdfast::io
