#include "restore/fill.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <set>

#include "base/error.h"
#include "collection/collection.h"
#include "collection/pack.h"
#include "storage/memory_store.h"

namespace holdfast::restore {
namespace {

using collection::FrameBlocks;
using collection::kBlockBytes;
using collection::kFrameBytes;
using collection::proto::Manifest;

/// Counts the requests for bytes of objects.
class CountingStore final : public storage::MemoryStore {
 public:
  bool get_into(const storage::ObjectKey& key, std::uint64_t offset, MutableByteView into,
                const Stop& stop) override {
    ++requests;
    return MemoryStore::get_into(key, offset, into, stop);
  }
  std::atomic<int> requests = 0;
};

/// A file of the newest layer. `content` is what it must be restored to: made by plain assignment
/// of each layer's changes, with no thought of layers, frames or claims.
struct LabFile {
  std::uint32_t id = 0;
  Bytes content;
};

enum class Store {
  Changed,  ///< the changed blocks of each frame
  Whole     ///< each frame that has a changed block
};

/// A chain of layers in memory, and a directory that it is restored to.
class Chain {
 public:
  explicit Chain(unsigned seed) : random_(seed) {
    std::string pattern = "/tmp/holdfast-fill-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) throw_errno("create a directory in /tmp");
    root_ = pattern;
  }
  ~Chain() {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }
  Chain(const Chain&) = delete;
  Chain& operator=(const Chain&) = delete;

  std::mt19937& random() { return random_; }
  unsigned below(std::size_t bound) { return static_cast<unsigned>(random_() % bound); }

  /// What pages are like: `entropy` of 256 bytes are random.
  Bytes bytes(std::size_t count, unsigned entropy = 32) {
    Bytes made(count);
    for (std::size_t i = 0; i < count; ++i) {
      made[i] = i % 256 < entropy ? std::byte(random_() & 0xff) : std::byte(i & 0xff);
    }
    return made;
  }

  std::map<std::string, LabFile>& files() { return files_; }
  const std::string& root() const { return root_; }
  CountingStore& store() { return store_; }

  /// A file that this layer holds whole, in place of one of the name.
  void create(const std::string& name, Bytes content) {
    changes_.erase(name);
    files_[name] = {.id = next_id_++, .content = std::move(content)};
    created_.insert(name);
  }
  void drop(const std::string& name) {
    changes_.erase(name);
    created_.erase(name);
    files_.erase(name);
  }
  /// New content in a block; at its end the file grows.
  void change(const std::string& name, std::size_t block, ByteView content) {
    Bytes& file = files_.at(name).content;
    file.resize(std::max(file.size(), (block + 1) * kBlockBytes));
    std::ranges::copy(content, file.begin() + static_cast<std::ptrdiff_t>(block * kBlockBytes));
    touch(name, block);
  }
  void cut(const std::string& name, std::size_t blocks) {
    Bytes& file = files_.at(name).content;
    file.resize(std::min(file.size(), blocks * kBlockBytes));
    std::set<std::size_t>& changed = changes_[name];
    changed.erase(changed.lower_bound(blocks), changed.end());
  }
  /// A block that the layer holds, though it may be what it was.
  void touch(const std::string& name, std::size_t block) {
    if (!created_.contains(name)) changes_[name].insert(block);
  }

  /// Makes a layer of what happened since the last one, in packs of about `pack_frames` frames.
  void layer(Store how, std::size_t pack_frames) {
    Manifest& manifest = chain_.emplace_back();
    manifest.set_subdirectory(fmt::format("layer{}", chain_.size()));
    manifest.set_backup_uuid(fmt::format("{:016}", chain_.size()));
    collection::BackupUuid uuid{};
    std::memcpy(uuid.data(), manifest.backup_uuid().data(), uuid.size());
    collection::FrameEncoder encoder{collection::Compression{}};
    collection::PackBuilder builder(1U << 20);
    std::uint32_t number = 1;
    const auto put = [&] {
      if (builder.empty()) return;
      collection::store_summary(builder.finish(), *manifest.add_packs());
      store_.put(collection::pack_key(manifest.subdirectory(), number), builder.bytes(),
                 storage::PutMode::OnlyIfAbsent, Stop::never());
      builder.reset(++number, uuid);
    };
    builder.reset(number, uuid);
    for (const auto& [name, file] : files_) {
      const bool whole_file = created_.contains(name);
      const std::set<std::size_t>& changed = changes_[name];
      for (std::size_t offset = 0; offset < file.content.size(); offset += kFrameBytes) {
        const ByteView frame =
            ByteView(file.content)
                .subspan(offset, std::min<std::size_t>(kFrameBytes, file.content.size() - offset));
        const auto frame_number = static_cast<std::uint32_t>(offset / kFrameBytes);
        FrameBlocks blocks;
        Bytes plain;
        for (std::size_t i = 0; i * kBlockBytes < frame.size(); ++i) {
          if (!changed.contains(offset / kBlockBytes + i)) continue;
          blocks.set(i);
          const ByteView block = frame.subspan(i * kBlockBytes, kBlockBytes);
          plain.insert(plain.end(), block.begin(), block.end());
        }
        if (whole_file || (blocks.any() && how == Store::Whole)) {
          builder.add(encoder, file.id, frame_number, frame);
        } else if (blocks.any()) {
          builder.add_partial(encoder, file.id, frame_number, blocks, plain);
        }
        if (builder.entries().size() >= pack_frames) put();
      }
    }
    put();
    created_.clear();
    changes_.clear();
  }

  Layout layout() const {
    Layout layout;
    layout.root = root_ + "/target";
    for (const auto& [name, file] : files_) {
      layout.files.push_back({.id = file.id,
                              .size = file.content.size(),
                              .mode = 0600,
                              .kind = collection::proto::FILE_KIND_RELATION,
                              .path = layout.root + "/" + name});
    }
    return layout;
  }

  /// Restores into what is in the directory; gives how many bytes were told to be in place.
  std::uint64_t restore(std::size_t workers) {
    const Layout layout = this->layout();
    std::filesystem::create_directories(layout.root);
    io::FileSystem& files = io::FileSystem::real();
    const std::vector<bool> may_hold_content = create_files(layout, files, workers, Stop::never());
    std::atomic<std::uint64_t> told = 0;
    fill_files({.chain = chain_,
                .layout = layout,
                .may_hold_content = may_hold_content,
                .store = store_,
                .files = files,
                .workers = workers,
                .progress = [&](std::uint64_t bytes) { told += bytes; },
                .before_pack = [] {}},
               Stop::never());
    return told;
  }

  void expect_restored() const {
    for (const auto& [name, file] : files_) {
      std::ifstream in(root_ + "/target/" + name, std::ios::binary);
      const std::string text{std::istreambuf_iterator<char>(in), {}};
      ASSERT_EQ(text.size(), file.content.size()) << name;
      const auto differs = std::ranges::mismatch(as_bytes(text), file.content);
      const auto at = static_cast<std::size_t>(differs.in2 - file.content.begin());
      ASSERT_EQ(at, text.size()) << name << ", block " << at / kBlockBytes;
    }
  }

  std::uint64_t total() const {
    std::uint64_t bytes = 0;
    for (const auto& [name, file] : files_) bytes += file.content.size();
    return bytes;
  }

  /// Overwrites some blocks of the restored files.
  void damage(unsigned blocks) {
    for (unsigned i = 0; i < blocks; ++i) {
      const auto& [name, file] = *std::next(files_.begin(), below(files_.size()));
      if (file.content.empty()) continue;
      std::fstream out(root_ + "/target/" + name, std::ios::in | std::ios::out | std::ios::binary);
      out.seekp(below(file.content.size()));
      out << "damage";
      out.flush();
      std::filesystem::resize_file(root_ + "/target/" + name, file.content.size());
    }
  }

 private:
  std::mt19937 random_;
  std::string root_;
  CountingStore store_;
  std::vector<Manifest> chain_;
  std::map<std::string, LabFile> files_;
  std::uint32_t next_id_ = 1;
  std::set<std::string> created_;
  std::map<std::string, std::set<std::size_t>> changes_;
};

void change_something(Chain& chain) {
  std::vector<std::string> names;
  for (const auto& [name, file] : chain.files()) names.push_back(name);
  for (const std::string& name : names) {
    const std::size_t blocks = chain.files().at(name).content.size() / kBlockBytes;
    switch (chain.below(8)) {
      case 0:
        chain.create(name, chain.bytes(chain.below(2 * kFrameBytes + 3)));
        continue;
      case 1:
        if (names.size() > 3) chain.drop(name);
        continue;
      case 2:
        chain.cut(name, chain.below(blocks + 1));
        break;
      case 3:  // grows
        for (std::size_t i = 0, end = chain.below(150); i < end; ++i) {
          chain.change(name, blocks + i, chain.bytes(kBlockBytes));
        }
        break;
      default:
        break;
    }
    const std::size_t now = chain.files().at(name).content.size() / kBlockBytes;
    // Odd ends are those of files that are always taken whole.
    if (now == 0 || chain.files().at(name).content.size() % kBlockBytes != 0) continue;
    const unsigned one_of = std::array{1U, 2U, 9U, 60U, 400U}[chain.below(5)];
    for (std::size_t block = 0; block < now; ++block) {
      if (chain.below(one_of) != 0) continue;
      switch (chain.below(9)) {
        case 0:
          chain.touch(name, block);
          break;
        case 1:
          chain.change(name, block, Bytes(kBlockBytes));
          break;
        default:
          chain.change(name, block, chain.bytes(kBlockBytes));
      }
    }
  }
  if (chain.below(2) == 0) {
    chain.create(fmt::format("new{}", chain.random()()), chain.bytes(chain.below(kFrameBytes)));
  }
}

TEST(FillProperty, RestoresWhatTheLayersMadeOfTheFiles) {
  for (unsigned seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Chain chain(seed);
    for (int i = 0; i < 4; ++i) {
      const std::size_t blocks = chain.below(3 * kFrameBytes / kBlockBytes);
      chain.create(fmt::format("file{}", i),
                   i == 3 ? Bytes(blocks * kBlockBytes) : chain.bytes(blocks * kBlockBytes));
    }
    chain.layer(Store::Whole, 1 + chain.below(6));
    const unsigned layers = chain.below(6);
    for (unsigned layer = 0; layer < layers; ++layer) {
      change_something(chain);
      chain.layer(chain.below(3) == 0 ? Store::Whole : Store::Changed, 1 + chain.below(6));
    }
    const std::size_t workers = 1 + chain.below(3);
    EXPECT_EQ(chain.restore(workers), chain.total());
    chain.expect_restored();

    // What is there already is compared, and repaired where it differs.
    chain.damage(chain.below(12));
    EXPECT_EQ(chain.restore(workers), chain.total());
    chain.expect_restored();
    if (HasFatalFailure()) return;
  }
}

TEST(Fill, FetchesWhatALayerHoldsOfManyFramesTogether) {
  constexpr std::size_t kFrames = 24;
  constexpr std::size_t kLayers = 6;
  Chain chain(1);
  chain.create("table", chain.bytes(kFrames * kFrameBytes));
  chain.layer(Store::Whole, 100);
  for (std::size_t layer = 0; layer < kLayers; ++layer) {
    for (std::size_t frame = 0; frame < kFrames; ++frame) {
      chain.change("table", frame * 128 + layer * 20 + frame % 20, chain.bytes(kBlockBytes));
    }
    chain.layer(Store::Changed, 100);
  }
  chain.store().requests = 0;
  chain.restore(1);
  chain.expect_restored();
  // An index and a request of each layer, and the full's frames by at most 4 MiB.
  EXPECT_LE(chain.store().requests, static_cast<int>(2 * kLayers + 1 + kFrames / 3));
}

TEST(Fill, HoldsNoMoreThanItMayWhateverTheLayersHoldOfOneFrame) {
  Chain chain(2);
  chain.create("table", chain.bytes(kFrameBytes, 256));
  chain.create("toast", Bytes());
  chain.layer(Store::Whole, 100);
  // Each layer holds less than the one before, so that some blocks are to be taken of every one.
  for (std::size_t layer = 0; layer < 21; ++layer) {
    for (std::size_t block = layer * 6; block < 128; ++block) {
      chain.change("table", block, chain.bytes(kBlockBytes, 256));
      chain.change("toast", block, chain.bytes(kBlockBytes, 256));
    }
    chain.layer(Store::Changed, 100);
  }
  chain.restore(1);
  chain.expect_restored();
}

TEST(Fill, RefusesAChainThatLacksABlock) {
  Chain chain(3);
  chain.create("table", chain.bytes(5 * kBlockBytes));
  chain.layer(Store::Whole, 100);
  chain.change("table", 5, chain.bytes(kBlockBytes));
  chain.layer(Store::Changed, 100);
  chain.files().at("table").content.resize(7 * kBlockBytes);
  try {
    chain.restore(1);
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kDataCorrupted);
    EXPECT_NE(error.message().find("holds frame 0 of file"), std::string::npos);
  }
}

}  // namespace
}  // namespace holdfast::restore
