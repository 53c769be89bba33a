#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/assert.h"
#include "base/error.h"
#include "postgres/wal_receiver.h"

namespace holdfast::postgres {
namespace {

void write_all(int fd, std::uint64_t offset, ByteView bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0) {
      if (errno == EINTR) continue;
      throw_errno(fmt::format("write file \"{}\"", path.string()));
    }
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    offset += static_cast<std::uint64_t>(written);
  }
}

UniqueFd create_file(const std::filesystem::path& path) {
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file) throw_errno(fmt::format("create file \"{}\"", path.string()));
  return file;
}

void complete_file(UniqueFd& file, const std::filesystem::path& partial,
                   const std::filesystem::path& final_path) {
  file.reset();
  if (::rename(partial.c_str(), final_path.c_str()) != 0) {
    throw_errno(fmt::format("rename file \"{}\"", partial.string()));
  }
}

}  // namespace

SpoolWalSink::SpoolWalSink(std::filesystem::path directory, std::uint64_t wal_segment_bytes)
    : directory_(std::move(directory)), wal_segment_bytes_(wal_segment_bytes) {}

SpoolWalSink::~SpoolWalSink() = default;

std::filesystem::path SpoolWalSink::path_of(const WalSegment& segment) const {
  return directory_ / wal_segment_name(segment.timeline, segment.segment, wal_segment_bytes_);
}

std::filesystem::path SpoolWalSink::partial_path() const {
  return path_of(current_).string() + ".partial";
}

void SpoolWalSink::begin_segment(TimelineId timeline, std::uint64_t segment) {
  current_ = {timeline, segment};
  file_ = create_file(partial_path());
}

void SpoolWalSink::write(std::uint64_t offset, ByteView bytes) {
  HF_ASSERT(static_cast<bool>(file_));
  write_all(file_.get(), offset, bytes, partial_path());
}

void SpoolWalSink::end_segment() {
  complete_file(file_, partial_path(), path_of(current_));
  segments_.push_back(current_);
  done_ = segment_start(current_.segment + 1, wal_segment_bytes_);
}

void SpoolWalSink::timeline_history(TimelineId timeline, ByteView content) {
  const auto path = directory_ / timeline_history_name(timeline);
  const std::filesystem::path partial = path.string() + ".partial";
  UniqueFd file = create_file(partial);
  write_all(file.get(), 0, content, partial);
  complete_file(file, partial, path);
}

void SpoolWalSink::finish() {
  if (!file_) return;
  if (::ftruncate(file_.get(), static_cast<off_t>(wal_segment_bytes_)) != 0) {
    throw_errno(fmt::format("extend file \"{}\"", partial_path().string()));
  }
  const Lsn done = done_;
  end_segment();
  // What was filled up with zeros was not received.
  done_ = done;
}

}  // namespace holdfast::postgres
