#include "restore/marker.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>

#include "base/error.h"
#include "io/file.h"

namespace holdfast::restore {
namespace {

constexpr std::uint64_t kMarkerLimit = 4096;
constexpr int kMaxLinks = 40;

constexpr std::string_view kContentStart = "restore job ";

std::string content_for(jobs::JobId job) { return fmt::format("{}{}\n", kContentStart, job); }

/// Source: io/file.cc, write_file_atomically().
bool is_unfinished_marker(std::string_view name) {
  return name.starts_with(fmt::format("{}.", kMarkerName)) && name.ends_with(".tmp");
}

std::string marker_path(const std::string& directory) {
  return fmt::format("{}/{}", directory, kMarkerName);
}

}  // namespace

Owner marker_owner(io::FileSystem& files, const std::string& directory, jobs::JobId job) {
  const auto content = io::read_whole(files, marker_path(directory), kMarkerLimit);
  if (!content) return Owner::Nobody;
  return as_text(*content) == content_for(job) ? Owner::ThisJob : Owner::OtherJob;
}

std::optional<jobs::JobId> marker_job(io::FileSystem& files, const std::string& directory) {
  const auto content = io::read_whole(files, marker_path(directory), kMarkerLimit);
  if (!content || !as_text(*content).starts_with(kContentStart)) return std::nullopt;
  const std::string_view number = as_text(*content).substr(kContentStart.size());
  jobs::JobId job = 0;
  const auto [end, failure] = std::from_chars(number.data(), number.data() + number.size(), job);
  if (failure != std::errc() || number.substr(end - number.data()) != "\n") return std::nullopt;
  return job;
}

void write_marker(io::FileSystem& files, const std::string& directory, jobs::JobId job) {
  io::write_file_atomically(files, marker_path(directory), as_bytes(content_for(job)));
}

void remove_marker(io::FileSystem& files, const std::string& directory, jobs::JobId job) {
  if (marker_owner(files, directory, job) != Owner::ThisJob) return;
  io::remove_file(files, marker_path(directory));
  io::sync_directory(files, directory);
}

void remove_unfinished_markers(io::FileSystem& files, const std::string& directory) {
  const UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return;
  for (const auto& entry : io::read_directory(fd.get(), directory)) {
    if (is_unfinished_marker(entry.name)) io::remove_file(files, directory + "/" + entry.name);
  }
}

UniqueFd lock_directory(const std::string& directory) {
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) throw_errno(fmt::format("open directory \"{}\"", directory));
  // Held for the time that a marker takes. NFS may refuse to lock what is open for reading.
  while (::flock(fd.get(), LOCK_EX) != 0 && errno == EINTR) {
  }
  return fd;
}

bool path_exists(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0;
}

std::string canonical(const std::string& path) {
  std::error_code failure;
  const auto real = std::filesystem::weakly_canonical(path, failure);
  return failure ? path : real.string();
}

std::uint64_t inode_of(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

bool is_absent_or_empty(const std::string& directory) {
  const UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) {
    if (errno == ENOENT) return true;
    throw_errno(fmt::format("open directory \"{}\"", directory));
  }
  for (const auto& entry : io::read_directory(fd.get(), directory)) {
    // The former is what mkfs leaves at a mount point.
    if (entry.name != "lost+found" && !is_unfinished_marker(entry.name)) return false;
  }
  return true;
}

std::string follow_links(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  for (int links = 0; links < kMaxLinks; ++links) {
    char target[PATH_MAX];
    const ssize_t length = ::readlink(path.c_str(), target, sizeof target);
    if (length < 0) return path;
    std::string next(target, static_cast<std::size_t>(length));
    path = next.starts_with('/') ? next : io::parent_of(path) + "/" + next;
    while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  }
  throw_errno(fmt::format("follow symbolic link \"{}\"", path), ELOOP);
}

}  // namespace holdfast::restore
