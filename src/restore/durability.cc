#include "restore/durability.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>

#include "base/error.h"
#include "base/worker_pool.h"
#include "io/file.h"

namespace holdfast::restore {
namespace {

// Source: Linux fs/xfs/xfs_super.c (XFS_SUPER_MAGIC), not in linux/magic.h of Debian 12.
constexpr long kXfsMagic = 0x58465342;

/// syncfs() reports failed writes since Linux 5.8. Source: syncfs(2).
bool kernel_reports_errors() {
  struct utsname name {};
  if (::uname(&name) != 0) return false;
  int major = 0;
  int minor = 0;
  if (std::sscanf(name.release, "%d.%d", &major, &minor) != 2) return false;
  return major > 5 || (major == 5 && minor >= 8);
}

bool syncs_as_a_whole(int fd) {
  struct statfs status {};
  if (::fstatfs(fd, &status) != 0) return false;
  const auto type = static_cast<long>(status.f_type);
  const bool known = type == EXT4_SUPER_MAGIC || type == kXfsMagic || type == BTRFS_SUPER_MAGIC ||
                     type == TMPFS_MAGIC;
  return known && kernel_reports_errors();
}

}  // namespace

Durability::Durability(const Layout& layout) {
  std::vector<dev_t> devices;
  const auto add = [&](const std::string& path) {
    Root root{.path = path,
              .fd = UniqueFd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC))};
    struct stat status {};
    if (!root.fd || ::fstat(root.fd.get(), &status) != 0) {
      throw_errno(fmt::format("open directory \"{}\"", path));
    }
    root.whole = syncs_as_a_whole(root.fd.get());
    if (std::ranges::find(devices, status.st_dev) != devices.end() && root.whole) return;
    devices.push_back(status.st_dev);
    roots_.push_back(std::move(root));
  };
  add(layout.root);
  for (const auto& space : layout.tablespaces) {
    if (!space.inside) add(space.build);
  }
}

void Durability::sync(io::FileSystem& files, std::size_t workers, const Stop& stop) {
  for (const Root& root : roots_) {
    stop.check();
    if (root.whole) {
      if (files.syncfs(root.fd.get()) != 0) {
        throw_errno(fmt::format("synchronize file system of \"{}\"", root.path));
      }
      continue;
    }
    std::vector<io::WalkedEntry> entries;
    io::walk(root.path, [&](const io::WalkedEntry& entry) {
      if (entry.type == io::EntryType::File || entry.type == io::EntryType::Directory) {
        entries.push_back(entry);
      }
      return true;
    });
    std::atomic<std::size_t> next = 0;
    run_workers(workers, stop, [&](std::size_t, const Stop& worker_stop) {
      for (std::size_t i = next++; i < entries.size(); i = next++) {
        worker_stop.check();
        const std::string path = root.path + "/" + entries[i].path;
        if (entries[i].type == io::EntryType::Directory) {
          io::sync_directory(files, path);
        } else {
          const UniqueFd fd = io::open_file(files, path, O_RDONLY | O_NOFOLLOW);
          io::sync_file(files, fd.get(), path);
        }
      }
    });
    io::sync_directory(files, root.path);
  }
}

}  // namespace holdfast::restore
