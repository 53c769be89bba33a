#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "manifest.pb.h"

namespace holdfast::backup {

/// A directory of the table; directories are few next to files.
struct DirectoryEntry {
  std::string path;  ///< relative to the data directory; "" is the data directory itself
  std::uint32_t mode = 0;
};

/// What is known of one file, small because a cluster may have millions.
struct FileEntry {
  std::uint64_t size = 0;         ///< at planning; less once the file was seen shorter
  std::uint32_t directory = 0;    ///< index into directories(), kNoDirectory for an absolute path
  std::uint32_t name_offset = 0;  ///< into the table's arena of names
  std::uint32_t first_frame = 0;  ///< ordinal of its first frame among all frames of the table
  std::uint32_t id = 0;           ///< as frames and manifest name it
  std::uint16_t name_length = 0;
  std::uint16_t mode = 0;
  std::uint8_t kind = 0;  ///< collection::proto::FileKind
  bool by_blocks = false;
  bool vanished = false;
};

struct NewFile {
  std::uint32_t directory = 0;
  std::string_view name;  ///< the whole path when it is in no directory of the table
  std::uint64_t size = 0;
  std::uint32_t mode = 0;
  collection::proto::FileKind kind = collection::proto::FILE_KIND_PLAIN;
  /// The main fork of a relation: WAL tells which of its blocks change.
  bool by_blocks = false;
};

/// Ids that an incremental layer gives.
struct ChainIds {
  /// By position: the id that the file has in the layer before; 0 for files that are whole here.
  std::vector<std::uint32_t> kept;
  /// Ids from here on were never used in the chain.
  std::uint32_t first_new = 1;
};

/// The files of a backup in path order, in few bytes each. Positions are indexes into it; they stay
/// what they are once the table is numbered.
class FileTable {
 public:
  static constexpr std::uint32_t kNoDirectory = ~0U;

  /// Returns the directory's index.
  std::uint32_t add_directory(std::string path, std::uint32_t mode);
  void add_file(const NewFile& file);

  /// Gives every file its id and its frames their ordinals; call once, after the last add_file().
  /// Files that `earlier` (an unfinished attempt's manifest) knows keep their ids, so that its
  /// packs stay readable; others are numbered above them. Without it ids run from 1 in path order.
  /// For an incremental layer `chain` says which ids are taken.
  void number(const collection::proto::Manifest* earlier, const ChainIds* chain = nullptr);
  /// The lowest id above all that were given.
  std::uint32_t next_id() const { return static_cast<std::uint32_t>(by_id_.size()); }

  std::size_t size() const { return files_.size(); }
  FileEntry& operator[](std::size_t position) { return files_[position]; }
  const FileEntry& operator[](std::size_t position) const { return files_[position]; }
  std::string path(std::size_t position) const;
  collection::proto::FileKind kind(std::size_t position) const {
    return static_cast<collection::proto::FileKind>(files_[position].kind);
  }
  /// Absent when no planned file has this id: its file is gone.
  std::optional<std::size_t> find(std::uint32_t id) const;
  const std::vector<DirectoryEntry>& directories() const { return directories_; }

  /// Of its size as known now.
  std::uint32_t frames(std::size_t position) const;
  /// Of its size when the table was numbered: as many ordinals it has.
  std::uint32_t planned_frames(std::size_t position) const;
  std::uint32_t total_frames() const { return total_frames_; }
  std::uint64_t total_bytes() const;

  /// Writes the files that are not gone in order of id.
  void store(collection::proto::Manifest& manifest) const;

 private:
  std::string_view name(const FileEntry& file) const {
    return std::string_view(names_).substr(file.name_offset, file.name_length);
  }

  std::vector<DirectoryEntry> directories_;
  std::vector<FileEntry> files_;
  std::string names_;
  std::vector<std::uint32_t> by_id_;  ///< position + 1; 0: none
  std::uint32_t total_frames_ = 0;
};

}  // namespace holdfast::backup
