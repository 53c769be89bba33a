#include "restore/open_files.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "io/file.h"

namespace holdfast::restore {
namespace {

/// Below this a write past the cache waits longer for the disk than it saves.
constexpr std::uint64_t kDirectFileBytes = 1U << 20;
constexpr std::size_t kDirectWriteBytes = 64U << 10;

constexpr std::size_t round_up(std::size_t bytes) {
  return (bytes + io::kDirectAlignment - 1) / io::kDirectAlignment * io::kDirectAlignment;
}

}  // namespace

OpenFiles::Entry& OpenFiles::open(const Place& place) {
  if (const auto found = by_path_.find(place.path); found != by_path_.end()) {
    entries_.splice(entries_.begin(), entries_, found->second);
    return entries_.front();
  }
  if (entries_.size() >= limit_) {
    by_path_.erase(entries_.back().path);
    entries_.pop_back();
  }
  Entry entry{.path = place.path,
              .buffered = io::open_file(files_, place.path, O_RDWR | O_NOFOLLOW),
              .direct = {}};
  if (place.file_size >= kDirectFileBytes) {
    // tmpfs and some network file systems refuse O_DIRECT.
    entry.direct.reset(files_.open_at(AT_FDCWD, place.path.c_str(),
                                      O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_DIRECT, 0));
  }
  entries_.push_front(std::move(entry));
  by_path_[place.path] = entries_.begin();
  return entries_.front();
}

void OpenFiles::write(const Place& place, MutableByteView bytes) {
  Entry& entry = open(place);
  const bool large = bytes.size() >= kDirectWriteBytes;
  if (entry.direct && large && bytes.size() % io::kDirectAlignment == 0 &&
      write_direct(entry, place, bytes)) {
    return;
  }
  io::pwrite_all(files_, entry.buffered.get(), bytes, place.offset, place.path);
  if (place.file_size >= kDirectFileBytes && large) {
    // Lets the disk work while we unpack; the sync at the end finds less to do. Only a hint.
    ::sync_file_range(entry.buffered.get(), static_cast<off_t>(place.offset),
                      static_cast<off_t>(bytes.size()), SYNC_FILE_RANGE_WRITE);
  }
}

bool OpenFiles::write_direct(const Entry& entry, const Place& place, ByteView bytes) {
  std::uint64_t offset = place.offset;
  while (!bytes.empty()) {
    const ssize_t written =
        files_.pwrite(entry.direct.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written > 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(written));
      offset += static_cast<std::uint64_t>(written);
    } else if (written == 0 || errno == EINVAL || errno == EOPNOTSUPP) {
      return false;
    } else if (errno != EINTR) {
      // Through the page cache a full or broken disk would seem to take it, and be found out late.
      throw_errno(fmt::format("write file \"{}\"", place.path));
    }
  }
  return true;
}

bool OpenFiles::cached(int fd, std::uint64_t offset, std::size_t bytes) {
  void* const map = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (map == MAP_FAILED) return true;
  std::vector<unsigned char> pages(round_up(bytes) / io::kDirectAlignment);
  const bool known = ::mincore(map, bytes, pages.data()) == 0;
  ::munmap(map, bytes);
  if (!known) return true;
  const auto resident =
      std::ranges::count_if(pages, [](unsigned char page) { return (page & 1) != 0; });
  return static_cast<std::size_t>(resident) * 10 >= pages.size() * 9;
}

bool OpenFiles::read(const Place& place, std::size_t bytes, MutableByteView buffer) {
  Entry& entry = open(place);
  if (entry.direct && round_up(bytes) <= buffer.size() &&
      !cached(entry.buffered.get(), place.offset, bytes)) {
    const ssize_t got = files_.pread(entry.direct.get(), buffer.data(), round_up(bytes),
                                     static_cast<off_t>(place.offset));
    if (got >= static_cast<ssize_t>(bytes)) return true;
  }
  return io::pread_up_to(files_, entry.buffered.get(), buffer.first(bytes), place.offset,
                         place.path) == bytes;
}

}  // namespace holdfast::restore
