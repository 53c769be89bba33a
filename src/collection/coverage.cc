#include <fmt/format.h>

#include <algorithm>

#include "collection/coverage_internal.h"
#include "collection/format.h"

namespace holdfast::collection {

namespace {

std::uint64_t frames_of(std::uint64_t size) {
  return size / kFrameBytes + (size % kFrameBytes != 0 ? 1 : 0);
}

std::uint64_t bytes_in_frame(std::uint64_t size, std::uint64_t frame) {
  return std::min<std::uint64_t>(kFrameBytes, size - frame * kFrameBytes);
}

}  // namespace

std::vector<bool> superseded_frames(const proto::Pack& pack, std::size_t frames) {
  std::vector<bool> superseded(frames);
  for (const std::uint32_t position : pack.superseded()) {
    if (position < frames) superseded[position] = true;
  }
  return superseded;
}

void Coverage::begin(const proto::Manifest& layer) {
  layer_ = &layer;
  impossible_ = false;
  for (const proto::Pack& pack : layer.packs()) stored_frames_ += pack.frames();
  const MutexLock lock(mutex_);
  auto before = std::move(files_);
  files_.clear();
  std::uint64_t frames = 0;
  for (const proto::File& file : layer.files()) {
    frames += frames_of(file.size());
    // Sizes are only claims: no memory for more than there can be.
    if (frames > stored_frames_) {
      impossible_ = true;
      return;
    }
    FileState state;
    if (const auto found = before.find(file.id()); found != before.end()) {
      state = std::move(found->second);
    }
    state.size = file.size();
    state.held.resize(frames_of(file.size()));
    state.in_layer.assign(state.held.size(), false);
    // What was cut off is not there when the file grows again.
    if (!state.held.empty()) {
      state.held.back() &= leading_blocks(bytes_in_frame(file.size(), state.held.size() - 1));
    }
    files_[file.id()] = std::move(state);
  }
}

std::string Coverage::add(const proto::Pack& pack, const std::vector<FrameEntry>& entries) {
  if (impossible_) return {};
  const std::vector<bool> superseded = superseded_frames(pack, entries.size());
  const MutexLock lock(mutex_);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (superseded[i]) continue;
    const FrameEntry& entry = entries[i];
    const auto found = files_.find(entry.file_id);
    if (found == files_.end() || entry.frame >= found->second.held.size() ||
        (!entry.partial && entry.plain_bytes != bytes_in_frame(found->second.size, entry.frame))) {
      return fmt::format("holds frame {} of file {}, which the manifest lacks", entry.frame,
                         entry.file_id);
    }
    FileState& file = found->second;
    if (file.in_layer[entry.frame]) {
      return fmt::format("holds frame {} of file {}, which is held elsewhere too", entry.frame,
                         entry.file_id);
    }
    file.in_layer[entry.frame] = true;
    file.held[entry.frame] |=
        entry.blocks() & leading_blocks(bytes_in_frame(file.size, entry.frame));
  }
  return {};
}

std::string Coverage::find_missing() const {
  if (impossible_) return "lists more data than its packs hold";
  const MutexLock lock(mutex_);
  for (const proto::File& file : layer_->files()) {
    const auto& held = files_.at(file.id()).held;
    for (std::size_t frame = 0; frame < held.size(); ++frame) {
      if (held[frame] == leading_blocks(bytes_in_frame(file.size(), frame))) continue;
      return fmt::format("lists file \"{}\", of which no pack holds frame {}", file.path(), frame);
    }
  }
  return {};
}

}  // namespace holdfast::collection
