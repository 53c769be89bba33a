#include "restore/marker.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "base/error.h"
#include "io/file.h"

namespace holdfast::restore {
namespace {

constexpr std::uint64_t kMarkerLimit = 4096;
constexpr int kMaxLinks = 40;

std::string content_for(jobs::JobId job) { return fmt::format("restore job {}\n", job); }

std::string marker_path(const std::string& directory) {
  return fmt::format("{}/{}", directory, kMarkerName);
}

}  // namespace

Owner marker_owner(io::FileSystem& files, const std::string& directory, jobs::JobId job) {
  const auto content = io::read_whole(files, marker_path(directory), kMarkerLimit);
  if (!content) return Owner::Nobody;
  return as_text(*content) == content_for(job) ? Owner::ThisJob : Owner::OtherJob;
}

void write_marker(io::FileSystem& files, const std::string& directory, jobs::JobId job) {
  io::write_file_atomically(files, marker_path(directory), as_bytes(content_for(job)));
}

void remove_marker(io::FileSystem& files, const std::string& directory) {
  if (!path_exists(marker_path(directory))) return;
  io::remove_file(files, marker_path(directory));
  io::sync_directory(files, directory);
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
    // What mkfs leaves at a mount point.
    if (entry.name != "lost+found") return false;
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
