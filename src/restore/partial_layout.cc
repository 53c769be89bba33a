#include "restore/partial_layout.h"

#include <fcntl.h>
#include <fmt/core.h>

#include <algorithm>
#include <deque>
#include <future>
#include <map>
#include <set>
#include <string_view>

#include "base/error.h"
#include "base/log.h"
#include "collection/wal_archive.h"
#include "collection/wal_recovery.h"
#include "io/file.h"
#include "postgres/lsn.h"
#include "postgres/scope_files.h"
#include "postgres/versions.h"
#include "postgres/wal_filter.h"

namespace holdfast::restore {
namespace {

using collection::proto::Manifest;

bool wanted(const collection::proto::File& file, const postgres::WalScope& scope) {
  if (file.kind() == collection::proto::FILE_KIND_EXTERNAL_CONFIG) return false;
  return postgres::file_in_scope(file.path(), scope);
}

/// The WAL that a manifest lists, in its order: while one segment is looked at, the next ones are
/// fetched and unpacked.
class WalAhead {
 public:
  /// With a target the archive may have only the beginning of the last segment, of any length.
  WalAhead(const Manifest& manifest, bool has_target, storage::ObjectStore& store, const Stop& stop)
      : manifest_(manifest), has_target_(has_target), store_(store), stop_(stop) {}

  bool at_end() const { return ahead_.empty() && next_ == manifest_.wal_size(); }

  /// A whole segment. Throws kUndefinedFile when it is missing.
  Bytes take() {
    const std::uint64_t bytes = manifest_.instance().wal_segment_bytes();
    const auto most = std::clamp<std::uint64_t>(kBytesAhead / bytes, 1, kSegmentsAhead);
    for (; ahead_.size() < most && next_ < manifest_.wal_size(); ++next_) {
      ahead_.push_back(
          std::async(std::launch::async, [this, number = next_, tag = log::thread_tag()] {
            const log::ThreadTag thread_tag(tag);
            return fetch(number);
          }));
    }
    Bytes segment = ahead_.front().get();
    ahead_.pop_front();
    return segment;
  }

 private:
  static constexpr std::uint64_t kBytesAhead = 64ULL << 20;
  static constexpr std::uint64_t kSegmentsAhead = 4;

  Bytes fetch(int number) const {
    const auto& wal = manifest_.wal(number);
    const std::uint64_t bytes = manifest_.instance().wal_segment_bytes();
    const collection::WalSegmentId id = collection::wal_segment_of(manifest_, wal);
    Bytes segment(bytes);
    const auto write = [&](std::uint64_t offset, ByteView content) {
      std::ranges::copy(content, segment.begin() + static_cast<std::ptrdiff_t>(offset));
    };
    const bool found = has_target_ && number + 1 == manifest_.wal_size()
                           ? collection::get_wal_or_tail(store_, id, write, stop_).has_value()
                           : collection::get_wal_segment(store_, id, write, stop_);
    if (found) return segment;
    throw Error(sqlstate::kUndefinedFile,
                fmt::format("WAL segment {} is missing in the collection",
                            postgres::wal_segment_name(wal.timeline(), wal.segment(), bytes)));
  }

  const Manifest& manifest_;
  const bool has_target_;
  storage::ObjectStore& store_;
  const Stop& stop_;
  int next_ = 0;
  std::deque<std::future<Bytes>> ahead_;  // their ends wait for what they fetch
};

}  // namespace

Layout make_private_layout(const Manifest& manifest, const std::string& root,
                           const std::string& tablespaces) {
  LayoutRequest request{.root = root, .final_root = root};
  for (const auto& space : manifest.tablespaces()) {
    if (!space.location().starts_with('/')) continue;
    auto& mapping = request.tablespace_mapping.emplace_back();
    mapping.set_from(std::to_string(space.oid()));
    mapping.set_to(fmt::format("{}/{}", tablespaces, space.oid()));
  }
  return make_layout(manifest, request);
}

Layout make_partial_layout(const Manifest& manifest, const std::string& root,
                           const std::string& tablespaces, const postgres::WalScope& scope) {
  Layout layout = make_private_layout(manifest, root, tablespaces);
  layout.partial = true;
  // Whoever runs the workshop alone may look at it.
  layout.root_mode = 0700;
  std::vector<FileTarget> files;
  std::set<std::string> used;
  for (std::size_t i = 0; i < layout.files.size(); ++i) {
    if (!wanted(manifest.files(static_cast<int>(i)), scope)) continue;
    files.push_back(std::move(layout.files[i]));
    files.back().mode = 0600;
  }
  layout.files = std::move(files);
  std::erase_if(layout.directories, [&](const DirectoryTarget& directory) {
    if (!directory.path.starts_with(root + "/")) return false;
    return !postgres::directory_in_scope(std::string_view(directory.path).substr(root.size() + 1),
                                         scope);
  });
  for (auto& directory : layout.directories) directory.mode = 0700;
  return layout;
}

void restore_scoped_wal(const Manifest& manifest, const proto::RecoveryTarget* target,
                        const Layout& layout, const postgres::WalScope& scope,
                        storage::ObjectStore& store, io::FileSystem& files, const Stop& stop) {
  const auto& instance = manifest.instance();
  const std::uint64_t bytes = instance.wal_segment_bytes();
  postgres::WalFilter filter(
      {.major = postgres::major_of(static_cast<int>(instance.server_version_num())),
       .wal_segment_bytes = bytes,
       .start = postgres::Lsn{manifest.start().position()},
       .end = postgres::Lsn{target != nullptr ? target->end() : manifest.stop().position()}},
      scope);
  UniqueFd fd;
  std::string path;
  std::uint64_t open_segment = 0;
  // Each segment's timeline; one behind the backup may be another than the backup's.
  std::map<std::uint64_t, std::uint32_t> timelines;
  for (const auto& wal : manifest.wal()) timelines[wal.segment()] = wal.timeline();
  const auto timeline_of = [&](std::uint64_t segment) {
    const auto found = timelines.find(segment);
    return found != timelines.end() ? found->second : manifest.stop().timeline();
  };
  const auto output = [&](postgres::Lsn position, ByteView pages) {
    while (!pages.empty()) {
      const std::uint64_t segment = position.value / bytes;
      const std::uint64_t offset = position.value % bytes;
      if (!fd || segment != open_segment) {
        path = fmt::format("{}/pg_wal/{}", layout.root,
                           postgres::wal_segment_name(timeline_of(segment), segment, bytes));
        fd = io::open_file(files, path, O_WRONLY | O_CREAT | O_EXCL, layout.file_mode());
        if (files.truncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
          throw_errno(fmt::format("set size of file \"{}\"", path));
        }
        open_segment = segment;
      }
      const auto now =
          static_cast<std::size_t>(std::min<std::uint64_t>(pages.size(), bytes - offset));
      io::pwrite_all(files, fd.get(), pages.first(now), offset, path);
      pages = pages.subspan(now);
      position.value += now;
    }
  };
  WalAhead ahead(manifest, target != nullptr, store, stop);
  while (!ahead.at_end()) {
    stop.check();
    filter.push(ahead.take(), output);
  }
  filter.finish(output);
  log::info("WAL of the objects is ready: records={} replaced={}", filter.records(),
            filter.replaced());
}

}  // namespace holdfast::restore
