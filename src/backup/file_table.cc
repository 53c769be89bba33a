#include "backup/file_table.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/error.h"
#include "collection/format.h"

namespace holdfast::backup {

namespace {

std::uint64_t frames_of(std::uint64_t size) {
  return (size + collection::kFrameBytes - 1) / collection::kFrameBytes;
}

}  // namespace

std::uint32_t FileTable::add_directory(std::string path, std::uint32_t mode) {
  directories_.push_back({std::move(path), mode});
  return static_cast<std::uint32_t>(directories_.size() - 1);
}

void FileTable::add_file(const NewFile& added) {
  constexpr auto kArenaLimit = std::numeric_limits<std::uint32_t>::max();
  if (added.name.size() > std::numeric_limits<std::uint16_t>::max() ||
      names_.size() + added.name.size() > kArenaLimit) {
    throw Error(sqlstate::kSystemError, "the data directory has too many files for one backup");
  }
  FileEntry& file = files_.emplace_back();
  file.size = added.size;
  file.directory = added.directory;
  file.name_offset = static_cast<std::uint32_t>(names_.size());
  file.name_length = static_cast<std::uint16_t>(added.name.size());
  file.mode = static_cast<std::uint16_t>(added.mode);
  file.kind = static_cast<std::uint8_t>(added.kind);
  file.by_blocks = added.by_blocks;
  names_ += added.name;
}

void FileTable::number(const collection::proto::Manifest* earlier, const ChainIds* chain) {
  std::unordered_map<std::string_view, std::uint32_t> known;
  // An earlier attempt's file that went on from the layer before, and is whole now, is another one.
  const std::uint32_t first_new = chain != nullptr ? chain->first_new : 1;
  std::uint32_t highest = first_new - 1;
  if (earlier != nullptr) {
    known.reserve(static_cast<std::size_t>(earlier->files_size()));
    for (const auto& file : earlier->files()) {
      if (file.id() >= first_new) known.emplace(file.path(), file.id());
      highest = std::max(highest, file.id());
    }
    // Packs may also hold files that were gone when the checkpoint was written.
    for (const auto& pack : earlier->packs()) highest = std::max(highest, pack.last_file());
  }

  std::uint64_t ordinal = 0;
  for (std::size_t i = 0; i < files_.size(); ++i) {
    FileEntry& file = files_[i];
    if (chain != nullptr && chain->kept[i] != 0) {
      file.id = chain->kept[i];
    } else {
      auto found = known.empty() ? known.end() : known.find(path(i));
      file.id = found == known.end() ? ++highest : found->second;
    }
    file.first_frame = static_cast<std::uint32_t>(ordinal);
    ordinal += frames_of(file.size);
  }
  if (ordinal > std::numeric_limits<std::uint32_t>::max()) {
    throw Error(sqlstate::kFeatureNotSupported, "the data directory is too large for one backup")
        .detail("A backup holds at most 4 PiB.");
  }
  total_frames_ = static_cast<std::uint32_t>(ordinal);

  by_id_.assign(highest + std::size_t{1}, 0);
  for (std::size_t i = 0; i < files_.size(); ++i) {
    by_id_[files_[i].id] = static_cast<std::uint32_t>(i + 1);
  }
}

std::string FileTable::path(std::size_t position) const {
  const FileEntry& file = files_[position];
  if (file.directory == kNoDirectory || directories_[file.directory].path.empty()) {
    return std::string(name(file));
  }
  return fmt::format("{}/{}", directories_[file.directory].path, name(file));
}

std::optional<std::size_t> FileTable::find(std::uint32_t id) const {
  if (id >= by_id_.size() || by_id_[id] == 0) return std::nullopt;
  return by_id_[id] - 1;
}

std::uint32_t FileTable::frames(std::size_t position) const {
  return static_cast<std::uint32_t>(frames_of(files_[position].size));
}

std::uint32_t FileTable::planned_frames(std::size_t position) const {
  const std::uint32_t end =
      position + 1 < files_.size() ? files_[position + 1].first_frame : total_frames_;
  return end - files_[position].first_frame;
}

std::uint64_t FileTable::total_bytes() const {
  std::uint64_t bytes = 0;
  for (const FileEntry& file : files_) {
    if (!file.vanished) bytes += file.size;
  }
  return bytes;
}

void FileTable::store(collection::proto::Manifest& manifest) const {
  for (const std::uint32_t slot : by_id_) {
    if (slot == 0 || files_[slot - 1].vanished) continue;
    const FileEntry& file = files_[slot - 1];
    auto& out = *manifest.add_files();
    out.set_id(file.id);
    out.set_path(path(slot - 1));
    out.set_size(file.size);
    out.set_mode(file.mode);
    out.set_kind(kind(slot - 1));
  }
}

}  // namespace holdfast::backup
