// page_compare [--without-maps-of=<database OID>]… <data directory> <data directory>
//
// Compares the relation files of two stopped clusters page by page, after masking what may differ
// between pages that went through the same WAL (postgres/page_mask.h). Exit status: 0 the same,
// 1 different (one line for each difference on standard output), 2 could not compare.
//
// Left out: temporary relations, free space maps (not WAL-logged) and all but the init forks of
// unlogged relations. Visibility maps are compared byte by byte but for their pages' headers,
// except in databases that --without-maps-of names. A file that is missing counts as empty, and
// zero pages at a file's end do not count: extending and dropping relations leaves either behind.
// Nor does what follows a file's last whole page, which PostgreSQL ignores.
#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "postgres/page.h"
#include "postgres/page_mask.h"
#include "postgres/relation_path.h"

namespace {

namespace fs = std::filesystem;
using namespace holdfast;
using namespace holdfast::postgres;

constexpr std::size_t kMostLines = 200;
constexpr std::string_view kRelationMap = "pg_filenode.map";
constexpr std::string_view kWithoutMapsOf = "--without-maps-of=";

struct Found {
  std::map<std::string, RelationPath> relations;
  std::set<std::string> maps;
};

void look_at_directory(const fs::path& root, const std::string& relative, Found& found) {
  UnloggedRelations unlogged;
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(root / relative)) {
    names.push_back(entry.path().filename().string());
    unlogged.add(names.back());
  }
  for (const auto& name : names) {
    const std::string path = relative + '/' + name;
    if (name == kRelationMap) found.maps.insert(path);
    const auto parsed = parse_relation_path(path);
    if (!parsed || parsed->temporary || parsed->fork == Fork::FreeSpaceMap ||
        unlogged.leaves_out(name)) {
      continue;
    }
    found.relations.emplace(path, *parsed);
  }
}

Found look_at_cluster(const fs::path& root) {
  Found found;
  look_at_directory(root, "global", found);
  std::vector<std::string> parents = {"base"};
  if (fs::is_directory(root / "pg_tblspc")) {
    for (const auto& tablespace : fs::directory_iterator(root / "pg_tblspc")) {
      const std::string name = "pg_tblspc/" + tablespace.path().filename().string();
      for (const auto& version : fs::directory_iterator(root / name)) {
        const std::string directory = version.path().filename().string();
        if (directory.starts_with("PG_")) parents.push_back(name + '/' + directory);
      }
    }
  }
  for (const auto& parent : parents) {
    for (const auto& database : fs::directory_iterator(root / parent)) {
      const std::string name = database.path().filename().string();
      if (database.is_directory() && name.find_first_not_of("0123456789") == std::string::npos) {
        look_at_directory(root, parent + '/' + name, found);
      }
    }
  }
  return found;
}

/// One page at a time; pages past the end, and of a missing file, are zero.
class PageFile {
 public:
  enum class Tail { Ignored, Read };  ///< what follows the last whole page

  PageFile(const fs::path& path, Tail tail) : path_(path) {
    file_.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file_) {
      size_ = fs::file_size(path);
      if (tail == Tail::Ignored) size_ = size_ / kPageBytes * kPageBytes;
    } else if (errno != ENOENT) {
      throw_errno(fmt::format("open file \"{}\"", path.string()));
    }
  }
  std::uint64_t size() const { return size_; }
  void read(std::uint64_t page, Bytes& out) const {
    out.resize(kPageBytes);
    ssize_t got = 0;
    if (page % kPagesPerLook == 0) look_for_data(page * kPageBytes);
    if (page * kPageBytes < size_ && (page + 1) * kPageBytes > data_) {
      got = ::pread(file_.get(), out.data(), kPageBytes, static_cast<off_t>(page * kPageBytes));
      if (got < 0) throw_errno(fmt::format("read file \"{}\"", path_.string()));
    }
    std::fill(out.begin() + got, out.end(), std::byte{0});
  }

 private:
  static constexpr std::uint64_t kPagesPerLook = 128;

  /// Holes of a gigabyte cost seconds when they are read.
  void look_for_data(std::uint64_t offset) const {
    if (offset >= size_ || offset < data_) return;
    const off_t found = ::lseek(file_.get(), static_cast<off_t>(offset), SEEK_DATA);
    data_ = found >= 0 ? static_cast<std::uint64_t>(found) : errno == ENXIO ? size_ : 0;
  }

  fs::path path_;
  UniqueFd file_;
  std::uint64_t size_ = 0;
  mutable std::uint64_t data_ = 0;  // all from the last look up to here is a hole
};

class Comparison {
 public:
  Comparison(fs::path left, fs::path right) : left_(std::move(left)), right_(std::move(right)) {}

  void relation(const std::string& path, const RelationPath& parsed) {
    const PageFile left(left_ / path, PageFile::Tail::Ignored);
    const PageFile right(right_ / path, PageFile::Tail::Ignored);
    const std::uint64_t pages = (std::max(left.size(), right.size()) + kPageBytes - 1) / kPageBytes;
    Bytes left_page;
    Bytes right_page;
    for (std::uint64_t page = 0; page < pages; ++page) {
      left.read(page, left_page);
      right.read(page, right_page);
      ++pages_;
      if (same(left_page, right_page)) continue;
      const auto block =
          static_cast<std::uint32_t>(std::uint64_t{parsed.segment} * kRelationSegmentBlocks + page);
      const PageKind kind =
          parsed.fork == Fork::VisibilityMap ? PageKind::Other : guess_page_kind(left_page);
      mask_page(left_page, kind, block, {});
      mask_page(right_page, kind, block, {});
      if (parsed.fork == Fork::VisibilityMap) {
        // The server makes a header for an empty page when it looks at it, and logs nothing of it.
        std::fill_n(left_page.begin(), kPageHeaderBytes, std::byte{0});
        std::fill_n(right_page.begin(), kPageHeaderBytes, std::byte{0});
      }
      if (same(left_page, right_page)) continue;
      std::size_t first = 0;
      while (left_page[first] == right_page[first]) ++first;
      std::size_t bytes = 0;
      for (std::size_t i = 0; i < kPageBytes; ++i) bytes += left_page[i] != right_page[i] ? 1 : 0;
      report(fmt::format("{} block {} (page kind {}): {} bytes differ, the first at {}", path,
                         block, static_cast<int>(kind), bytes, first));
    }
  }

  void plain(const std::string& path) {
    const PageFile left(left_ / path, PageFile::Tail::Read);
    const PageFile right(right_ / path, PageFile::Tail::Read);
    Bytes left_page;
    Bytes right_page;
    left.read(0, left_page);
    right.read(0, right_page);
    if (!same(left_page, right_page)) report(fmt::format("{}: content differs", path));
  }

  std::size_t differences() const { return differences_; }
  std::size_t pages() const { return pages_; }

 private:
  // Faster than the vectors' own comparison, which goes byte by byte.
  static bool same(const Bytes& left, const Bytes& right) {
    return std::memcmp(left.data(), right.data(), kPageBytes) == 0;
  }

  void report(const std::string& line) {
    if (++differences_ <= kMostLines) fmt::print("{}\n", line);
  }

  fs::path left_;
  fs::path right_;
  std::size_t differences_ = 0;
  std::size_t pages_ = 0;
};

int compare(const fs::path& left, const fs::path& right,
            const std::set<std::uint32_t>& without_maps) {
  Found found = look_at_cluster(left);
  Found other = look_at_cluster(right);
  found.relations.merge(other.relations);
  found.maps.merge(other.maps);
  Comparison comparison(left, right);
  for (const auto& [path, parsed] : found.relations) {
    if (parsed.fork == Fork::VisibilityMap && without_maps.contains(parsed.relation.database)) {
      continue;
    }
    comparison.relation(path, parsed);
  }
  for (const auto& path : found.maps) comparison.plain(path);
  fmt::print("{} pages of {} files compared, {} differences\n", comparison.pages(),
             found.relations.size(), comparison.differences());
  return comparison.differences() == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::set<std::uint32_t> without_maps;
  int first = 1;
  for (; first < argc && std::string_view(argv[first]).starts_with(kWithoutMapsOf); ++first) {
    without_maps.insert(
        static_cast<std::uint32_t>(std::strtoul(argv[first] + kWithoutMapsOf.size(), nullptr, 10)));
  }
  if (argc != first + 2) {
    fmt::print(stderr, "usage: page_compare [{}<OID>]… <data directory> <data directory>\n",
               kWithoutMapsOf);
    return 2;
  }
  try {
    return compare(argv[first], argv[first + 1], without_maps);
  } catch (const std::exception& error) {
    fmt::print(stderr, "page_compare: {}\n", error.what());
    return 2;
  }
}
