#include "storage/sealed_store.h"

#include "storage/fault_store.h"
#include "storage/memory_store.h"
#include "storage/testing/object_store_contract.h"

namespace holdfast::storage {
namespace {

using crypto::SecretKey;

struct MakeSealed {
  std::unique_ptr<ObjectStore> operator()() {
    return std::make_unique<SealedStore>(std::make_unique<MemoryStore>(),
                                         [this](const ObjectKey&) { return &key; });
  }
  SecretKey key = SecretKey::random();
};
INSTANTIATE_TYPED_TEST_SUITE_P(Sealed, ObjectStoreContract, MakeSealed);

Bytes pattern(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 >> 3);
  return bytes;
}

class SealedStoreTest : public ::testing::Test {
 protected:
  SealedStoreTest() {
    auto memory = std::make_unique<FaultStore>(std::make_unique<MemoryStore>());
    below_ = memory.get();
    store_ = std::make_unique<SealedStore>(std::move(memory), [this](const ObjectKey& key) {
      return key.starts_with("plain/") ? nullptr : &key_;
    });
  }
  void put(const ObjectKey& key, ByteView bytes) {
    store_->put(key, bytes, PutMode::OnlyIfAbsent, stop_);
  }
  std::string get(const ObjectKey& key, std::uint64_t offset, std::uint64_t length) {
    Bytes into(length);
    try {
      return store_->get_into(key, offset, into, stop_) ? std::string(as_text(into)) : "(absent)";
    } catch (const Error& error) {
      EXPECT_NE(error.message().find("\"" + key + "\""), std::string::npos) << error.message();
      return std::string(error.state().view());
    }
  }
  Bytes below(const ObjectKey& key) {
    return get_whole(*below_, key, kMaxObjectBytes, stop_).value();
  }
  void replace_below(const ObjectKey& key, ByteView bytes) {
    below_->put(key, bytes, PutMode::Overwrite, stop_);
  }

  SecretKey key_ = SecretKey::random();
  FaultStore* below_ = nullptr;
  std::unique_ptr<SealedStore> store_;
  Stop stop_ = Stop::never();
};

TEST_F(SealedStoreTest, LeavesWhatHasNoKeyAsItIs) {
  put("plain/a", as_bytes("text"));
  EXPECT_EQ(as_text(below("plain/a")), "text");
  EXPECT_EQ(get("plain/a", 1, 2), "ex");
  put("sealed/a", as_bytes("text"));
  EXPECT_EQ(below("sealed/a").size(), 84U);
}

TEST_F(SealedStoreTest, TellsPlainSizes) {
  put("a/one", pattern(100'000));
  put("plain/two", pattern(7));
  EXPECT_EQ(store_->stat("a/one", stop_)->size, 100'000U);
  std::map<std::string, std::uint64_t> sizes;
  store_->list(
      "", [&](const ObjectInfo& info) { sizes[info.key] = info.size; }, stop_);
  EXPECT_EQ(sizes, (std::map<std::string, std::uint64_t>{{"a/one", 100'000}, {"plain/two", 7}}));
}

TEST_F(SealedStoreTest, RefusesObjectsThatWereSwapped) {
  put("a/1", as_bytes("one"));
  put("a/2", as_bytes("two"));
  const Bytes one = below("a/1");
  replace_below("a/1", below("a/2"));
  replace_below("a/2", one);
  EXPECT_EQ(get("a/1", 0, 3), "XX001");
  EXPECT_EQ(get("a/2", 0, 3), "XX001");
}

TEST_F(SealedStoreTest, RefusesObjectsThatAreNotEncrypted) {
  replace_below("a/1", pattern(500));
  replace_below("a/2", as_bytes("short"));
  EXPECT_EQ(get("a/1", 0, 3), "XX001");
  EXPECT_EQ(get("a/2", 0, 3), "XX001");
  EXPECT_THROW(store_->stat("a/2", stop_), Error);
}

TEST_F(SealedStoreTest, RefusesObjectsThatWereCutOrGrew) {
  const Bytes plain = pattern(200'000);
  put("a/1", plain);
  const Bytes sealed = below("a/1");
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{63}, std::size_t{64}, std::size_t{100}, sealed.size() - 1}) {
    replace_below("a/1", ByteView(sealed).first(size));
    EXPECT_EQ(get("a/1", 0, plain.size()), "XX001") << size;
    EXPECT_THROW(get_whole(*store_, "a/1", plain.size(), stop_), Error) << size;
  }
  Bytes longer = sealed;
  longer.resize(sealed.size() + 1000);
  replace_below("a/1", longer);
  EXPECT_THROW(get_whole(*store_, "a/1", kMaxObjectBytes, stop_), Error);
}

TEST_F(SealedStoreTest, NoticesAnObjectThatWasPutAnew) {
  put("a/1", as_bytes("first"));
  EXPECT_EQ(get("a/1", 0, 5), "first");
  // By another process, of which this one knows nothing.
  Bytes sealed(crypto::sealed_size(6));
  crypto::seal_stream(key_, "a/1", as_bytes("second"), sealed);
  replace_below("a/1", sealed);
  EXPECT_EQ(get("a/1", 0, 5), "secon");
  EXPECT_EQ(get("a/1", 0, 6), "second");
}

TEST_F(SealedStoreTest, ReadsOnlyTheChunksAroundARange) {
  const Bytes plain = pattern(10 * crypto::kSealedChunkBytes);
  put("a/1", plain);
  Bytes changed = below("a/1");
  changed.back() ^= std::byte{1};
  replace_below("a/1", changed);
  const std::uint64_t last = 9 * crypto::kSealedChunkBytes;
  EXPECT_EQ(get("a/1", 0, last), as_text(ByteView(plain).first(last)));
  EXPECT_EQ(get("a/1", last, 1), "XX001");
}

TEST_F(SealedStoreTest, AsksOnceForAHeader) {
  const Bytes plain = pattern(10 * crypto::kSealedChunkBytes);
  put("a/1", plain);
  const unsigned before = below_->calls(StoreCall::Get);
  for (std::uint64_t offset = 0; offset < plain.size(); offset += 50'000) {
    EXPECT_EQ(get("a/1", offset, 3), as_text(ByteView(plain).subspan(offset, 3)));
  }
  EXPECT_EQ(below_->calls(StoreCall::Get) - before, 1 + (plain.size() + 49'999) / 50'000);
}

TEST_F(SealedStoreTest, GetsAWholeObjectInOneRequest) {
  const Bytes plain = pattern(200'000);
  put("a/1", plain);
  const unsigned before = below_->calls(StoreCall::Get);
  EXPECT_EQ(get_whole(*store_, "a/1", plain.size(), stop_), plain);
  EXPECT_EQ(below_->calls(StoreCall::Get) - before, 1U);
}

}  // namespace
}  // namespace holdfast::storage
