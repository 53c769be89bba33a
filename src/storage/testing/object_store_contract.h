#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "storage/object_store.h"

namespace holdfast::storage {

/// What every driver and wrapper must do. A driver's test says
///
///     struct Maker { std::unique_ptr<ObjectStore> operator()(); };  // an empty store each time
///     INSTANTIATE_TYPED_TEST_SUITE_P(Memory, ObjectStoreContract, Maker);
template <typename Maker>
class ObjectStoreContract : public testing::Test {
 protected:
  PutResult put(const ObjectKey& key, std::string_view text, PutMode mode = PutMode::OnlyIfAbsent) {
    return store_->put(key, as_bytes(text), mode, stop_);
  }
  std::string get(const ObjectKey& key) {
    const auto bytes = get_whole(*store_, key, kMaxObjectBytes, stop_);
    return bytes ? std::string(as_text(*bytes)) : "(absent)";
  }
  std::vector<std::string> list(const ObjectKey& prefix) {
    std::vector<std::string> keys;
    store_->list(
        prefix, [&](const ObjectInfo& info) { keys.push_back(info.key); }, stop_);
    return keys;
  }

  Maker maker_;
  std::unique_ptr<ObjectStore> store_ = maker_();
  Stop stop_ = Stop::never();
};

TYPED_TEST_SUITE_P(ObjectStoreContract);

TYPED_TEST_P(ObjectStoreContract, GetsWhatWasPut) {
  EXPECT_EQ(this->put("a/b/c", "hello"), PutResult::Stored);
  EXPECT_EQ(this->get("a/b/c"), "hello");
  const auto info = this->store_->stat("a/b/c", this->stop_);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->key, "a/b/c");
  EXPECT_EQ(info->size, 5U);
}

TYPED_TEST_P(ObjectStoreContract, StoresEmptyObjects) {
  EXPECT_EQ(this->put("empty", ""), PutResult::Stored);
  EXPECT_EQ(this->get("empty"), "");
  EXPECT_TRUE(this->store_->get_into("empty", 0, {}, this->stop_));
}

TYPED_TEST_P(ObjectStoreContract, StoresLargeObjects) {
  Bytes bytes(20U << 20);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7 >> 3);
  EXPECT_EQ(this->store_->put("large", bytes, PutMode::OnlyIfAbsent, this->stop_),
            PutResult::Stored);
  EXPECT_TRUE(get_whole(*this->store_, "large", bytes.size(), this->stop_) == bytes);
}

TYPED_TEST_P(ObjectStoreContract, NeverReplacesUnlessToldTo) {
  this->put("k", "first");
  EXPECT_EQ(this->put("k", "second"), PutResult::Taken);
  EXPECT_EQ(this->get("k"), "first");
  EXPECT_EQ(this->put("k", "third", PutMode::Overwrite), PutResult::Stored);
  EXPECT_EQ(this->get("k"), "third");
}

TYPED_TEST_P(ObjectStoreContract, GetsRanges) {
  this->put("k", "0123456789");
  Bytes part(4);
  EXPECT_TRUE(this->store_->get_into("k", 3, part, this->stop_));
  EXPECT_EQ(as_text(part), "3456");
  EXPECT_TRUE(this->store_->get_into("k", 6, part, this->stop_));
  EXPECT_EQ(as_text(part), "6789");
}

TYPED_TEST_P(ObjectStoreContract, RefusesRangesBeyondTheEnd) {
  this->put("k", "0123456789");
  Bytes part(4);
  for (const std::uint64_t offset : {7ULL, 10ULL, 11ULL, 1ULL << 40}) {
    try {
      this->store_->get_into("k", offset, part, this->stop_);
      ADD_FAILURE() << "offset " << offset << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.state(), sqlstate::kDataCorrupted);
      EXPECT_THAT(error.message(), testing::HasSubstr("\"k\""));
    }
  }
}

TYPED_TEST_P(ObjectStoreContract, SaysWhatIsAbsent) {
  Bytes part(4);
  this->put("there/below", "x");
  for (const std::string key : {"missing", "there", "there/below/deeper", "there/other"}) {
    EXPECT_FALSE(this->store_->get_into(key, 0, part, this->stop_)) << key;
    EXPECT_FALSE(this->store_->stat(key, this->stop_)) << key;
    EXPECT_EQ(this->get(key), "(absent)");
  }
}

TYPED_TEST_P(ObjectStoreContract, ListsAtAnyDepthBelowAPrefix) {
  for (const char* key : {"a/1", "a/b/2", "a/b/c/3", "ab/4", "z"}) this->put(key, "x");
  using testing::UnorderedElementsAre;
  EXPECT_THAT(this->list(""), UnorderedElementsAre("a/1", "a/b/2", "a/b/c/3", "ab/4", "z"));
  EXPECT_THAT(this->list("a"), UnorderedElementsAre("a/1", "a/b/2", "a/b/c/3"));
  EXPECT_THAT(this->list("a/b"), UnorderedElementsAre("a/b/2", "a/b/c/3"));
  EXPECT_THAT(this->list("z"), testing::IsEmpty());
  EXPECT_THAT(this->list("missing"), testing::IsEmpty());
}

TYPED_TEST_P(ObjectStoreContract, TakesNamesWithSpecialCharacters) {
  const std::vector<std::string> keys = {"a b/c+d",      "100%/%41",   "q?x=1&y=2#z", "ä/ö 日本",
                                         "(p)*'!;:@$,~", "<&>\"'/]]>", "..x/.y"};
  for (const std::string& key : keys) {
    EXPECT_EQ(this->put(key, key), PutResult::Stored) << key;
    EXPECT_EQ(this->put(key, "other"), PutResult::Taken) << key;
    EXPECT_EQ(this->get(key), key);
  }
  EXPECT_THAT(this->list(""), testing::UnorderedElementsAreArray(keys));
  EXPECT_THAT(this->list("ä"), testing::ElementsAre("ä/ö 日本"));
  EXPECT_THAT(this->store_->list_directories("", this->stop_),
              testing::UnorderedElementsAre("..x", "100%", "<&>\"'", "a b", "ä"));
  for (const std::string& key : keys) this->store_->remove(key, this->stop_);
  EXPECT_THAT(this->list(""), testing::IsEmpty());
}

TYPED_TEST_P(ObjectStoreContract, ListsDirectoriesSorted) {
  for (const char* key : {"b/1", "a/1", "c/d/e", "file"}) this->put(key, "x");
  using testing::ElementsAre;
  EXPECT_THAT(this->store_->list_directories("", this->stop_), ElementsAre("a", "b", "c"));
  EXPECT_THAT(this->store_->list_directories("c", this->stop_), ElementsAre("d"));
  EXPECT_THAT(this->store_->list_directories("c/d", this->stop_), testing::IsEmpty());
  EXPECT_THAT(this->store_->list_directories("missing", this->stop_), testing::IsEmpty());
}

TYPED_TEST_P(ObjectStoreContract, RemovesObjectsAndThePrefixesTheyMade) {
  this->put("a/b/c", "x");
  this->put("a/d", "x");
  this->store_->remove("a/b/c", this->stop_);
  this->store_->remove("a/b/c", this->stop_);
  this->store_->remove("never/was", this->stop_);
  this->store_->remove("a", this->stop_);
  EXPECT_THAT(this->list(""), testing::ElementsAre("a/d"));
  EXPECT_THAT(this->store_->list_directories("a", this->stop_), testing::IsEmpty());
  EXPECT_EQ(this->put("a/b/c", "again"), PutResult::Stored);
  EXPECT_EQ(this->get("a/b/c"), "again");
}

TYPED_TEST_P(ObjectStoreContract, RefusesNamesThatAreNone) {
  const std::vector<std::string> wrong = {"",   "/a",     "a/",   "a//b", ".",
                                          "..", "a/../b", "../a", "a/.",  std::string("a\0b", 3)};
  for (const std::string& key : wrong) {
    SCOPED_TRACE(key);
    Bytes part(1);
    EXPECT_THROW(this->put(key, "x"), Error);
    EXPECT_THROW(this->store_->get_into(key, 0, part, this->stop_), Error);
    EXPECT_THROW(this->store_->stat(key, this->stop_), Error);
    EXPECT_THROW(this->store_->remove(key, this->stop_), Error);
    if (!key.empty()) {
      EXPECT_THROW(this->list(key), Error);
      EXPECT_THROW(this->store_->list_directories(key, this->stop_), Error);
    }
  }
}

TYPED_TEST_P(ObjectStoreContract, RefusesObjectsThatAreTooLarge) {
  // Never touched, so the pages of it are never there.
  const ByteView huge(reinterpret_cast<const std::byte*>(this), kMaxObjectBytes + 1);
  EXPECT_THROW(this->store_->put("k", huge, PutMode::OnlyIfAbsent, this->stop_), Error);
  EXPECT_EQ(this->get("k"), "(absent)");
}

TYPED_TEST_P(ObjectStoreContract, StopsWhenAsked) {
  this->put("k", "x");
  StopSource source;
  source.request(StopReason::Cancel);
  const Stop stop = source.stop();
  Bytes part(1);
  EXPECT_THROW(this->store_->put("new", as_bytes("x"), PutMode::OnlyIfAbsent, stop), Stopped);
  EXPECT_THROW(this->store_->get_into("k", 0, part, stop), Stopped);
  EXPECT_THROW(this->store_->stat("k", stop), Stopped);
  EXPECT_THROW(this->store_->list(
                   "", [](const ObjectInfo&) {}, stop),
               Stopped);
  EXPECT_THROW(this->store_->list_directories("", stop), Stopped);
  EXPECT_THROW(this->store_->remove("k", stop), Stopped);
  EXPECT_EQ(this->get("new"), "(absent)");
  EXPECT_EQ(this->get("k"), "x");
}

TYPED_TEST_P(ObjectStoreContract, OneOfManyPutsOfOneNameWins) {
  std::atomic<int> stored = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int n = 0; n < 10; ++n) {
        const std::string text = std::to_string(i);
        if (this->put("race/" + std::to_string(n), text) == PutResult::Stored) ++stored;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(stored, 10);
}

TYPED_TEST_P(ObjectStoreContract, PutsAndRemovesOfOneDirectoryDoNotDisturbEachOther) {
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int n = 0; n < 25; ++n) {
        const std::string key = "shared/deep/" + std::to_string(i);
        EXPECT_EQ(this->put(key, "x"), PutResult::Stored);
        EXPECT_EQ(this->get(key), "x");
        this->store_->remove(key, this->stop_);
      }
    });
  }
  threads.clear();
  EXPECT_THAT(this->list(""), testing::IsEmpty());
}

REGISTER_TYPED_TEST_SUITE_P(ObjectStoreContract, GetsWhatWasPut, StoresEmptyObjects,
                            StoresLargeObjects, NeverReplacesUnlessToldTo, GetsRanges,
                            RefusesRangesBeyondTheEnd, SaysWhatIsAbsent,
                            ListsAtAnyDepthBelowAPrefix, TakesNamesWithSpecialCharacters,
                            ListsDirectoriesSorted, RemovesObjectsAndThePrefixesTheyMade,
                            RefusesNamesThatAreNone, RefusesObjectsThatAreTooLarge, StopsWhenAsked,
                            OneOfManyPutsOfOneNameWins,
                            PutsAndRemovesOfOneDirectoryDoNotDisturbEachOther);

}  // namespace holdfast::storage
