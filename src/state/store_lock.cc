#include "state/store_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "base/error.h"

namespace holdfast::state {

namespace {

/// The process id that the owner wrote; empty when it has not written it yet.
std::string owner_of(int fd) {
  char text[32];
  const ssize_t length = pread(fd, text, sizeof text, 0);
  std::string owner(text, length > 0 ? static_cast<std::size_t>(length) : 0);
  return owner.substr(0, owner.find_first_not_of("0123456789"));
}

}  // namespace

StoreLock::StoreLock(const std::filesystem::path& store) {
  const std::filesystem::path path = store / "LOCK";
  file_.reset(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file_) throw_errno(fmt::format("open lock file \"{}\"", path.string()));
  if (flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) throw_errno(fmt::format("lock file \"{}\"", path.string()));
    const std::string owner = owner_of(file_.get());
    throw Error(sqlstate::kObjectInUse, fmt::format("store directory \"{}\" is used by another "
                                                    "holdfast",
                                                    store.string()))
        .detail(owner.empty() ? "Its process id is not known."
                              : fmt::format("Its process id is {}.", owner))
        .hint("Stop that daemon, or give this one a store directory of its own with --store.");
  }
  const std::string text = fmt::format("{}\n", getpid());
  if (ftruncate(file_.get(), 0) != 0 ||
      pwrite(file_.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    throw_errno(fmt::format("write lock file \"{}\"", path.string()));
  }
}

}  // namespace holdfast::state
