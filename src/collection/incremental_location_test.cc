#include "collection/incremental_location.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/encryption.h"
#include "collection/survey.h"
#include "storage/fault_store.h"
#include "storage/memory_store.h"
#include "storage/testing/object_store_contract.h"

namespace holdfast::collection {
namespace {

using Claim = LocatedStore::Claim;
using storage::MemoryStore;
using storage::ObjectInfo;
using storage::PutMode;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

const std::string kFull = "2026/11/20-223000.00";
const std::string kLocatedLayer = "incrementals/2026/11/20-223000.00/20261120/231500.00";
const std::string kLayerElsewhere = "2026/11/20-223000.00/20261120/231500.00";

/// Another's store, lent.
class Lent final : public storage::ObjectStore {
 public:
  explicit Lent(storage::ObjectStore& store) : store_(store) {}
  storage::PutResult put(const storage::ObjectKey& key, ByteView bytes, PutMode mode,
                         const Stop& stop) override {
    return store_.put(key, bytes, mode, stop);
  }
  bool get_into(const storage::ObjectKey& key, std::uint64_t offset, MutableByteView into,
                const Stop& stop) override {
    return store_.get_into(key, offset, into, stop);
  }
  std::optional<ObjectInfo> stat(const storage::ObjectKey& key, const Stop& stop) override {
    return store_.stat(key, stop);
  }
  void list(const storage::ObjectKey& prefix, const std::function<void(const ObjectInfo&)>& visit,
            const Stop& stop) override {
    store_.list(prefix, visit, stop);
  }
  std::vector<std::string> list_directories(const storage::ObjectKey& prefix,
                                            const Stop& stop) override {
    return store_.list_directories(prefix, stop);
  }
  void remove(const storage::ObjectKey& key, const Stop& stop) override {
    store_.remove(key, stop);
  }
  std::string description() const override { return store_.description(); }

 private:
  storage::ObjectStore& store_;
};

class IncrementalLocationTest : public ::testing::Test {
 protected:
  std::unique_ptr<LocatedStore> located(MemoryStore& elsewhere) {
    return std::make_unique<LocatedStore>(std::make_unique<Lent>(here_),
                                          std::make_unique<Lent>(elsewhere), "");
  }
  void put(storage::ObjectStore& store, const std::string& key, std::string_view text = "x") {
    store.put(key, as_bytes(text), PutMode::OnlyIfAbsent, stop_);
  }
  std::string get(storage::ObjectStore& store, const std::string& key) {
    const auto bytes = get_whole(store, key, 1000, stop_);
    return bytes ? std::string(as_text(*bytes)) : "(absent)";
  }
  std::vector<std::string> keys(storage::ObjectStore& store, const std::string& prefix = "") {
    std::vector<std::string> found;
    store.list(
        prefix, [&](const ObjectInfo& info) { found.push_back(info.key); }, stop_);
    std::ranges::sort(found);
    return found;
  }
  std::string refused(LocatedStore& store) {
    try {
      store.claim(kFull, Claim::Take, Viewer::Administrator, stop_);
    } catch (const Error& error) {
      return error.message() + " " + error.detail();
    }
    return "not refused";
  }

  MemoryStore here_{"memory://here"};
  MemoryStore there_{"memory://there"};
  MemoryStore third_{"memory://third"};
  Stop stop_ = Stop::never();
};

TEST_F(IncrementalLocationTest, LayersOfAClaimedFullGoElsewhere) {
  const auto store = located(there_);
  store->claim(kFull, Claim::Take, Viewer::Administrator, stop_);
  put(*store, kLocatedLayer + "/data/1.pack", "pack");
  put(*store, kFull + "/data/1.pack", "of the full");
  EXPECT_THAT(keys(there_),
              ElementsAre(kLayerElsewhere + "/data/1.pack", kFull + "/FULL-LOCATION"));
  EXPECT_EQ(get(*store, kLocatedLayer + "/data/1.pack"), "pack");
  EXPECT_EQ(store->stat(kLocatedLayer + "/data/1.pack", stop_)->key,
            kLocatedLayer + "/data/1.pack");
  EXPECT_THAT(store->list_directories(incrementals_of(kFull), stop_), ElementsAre("20261120"));
  EXPECT_THAT(keys(*store, incrementals_of(kFull)),
              ElementsAre(kLocatedLayer + "/data/1.pack", full_location_key(kFull)));
  EXPECT_EQ(get(here_, kFull + "/data/1.pack"), "of the full");
  store->remove(kLocatedLayer + "/data/1.pack", stop_);
  EXPECT_EQ(get(*store, kLocatedLayer + "/data/1.pack"), "(absent)");
}

TEST_F(IncrementalLocationTest, WhatIsInEitherPlaceIsOfTheChain) {
  put(here_, kLocatedLayer + "/BACKUP_MANIFEST", "here");
  const auto store = located(there_);
  store->claim(kFull, Claim::Take, Viewer::Administrator, stop_);
  const std::string later = incrementals_of(kFull) + "/20261121/231500.00";
  put(*store, later + "/BACKUP_MANIFEST", "there");
  EXPECT_EQ(get(*store, kLocatedLayer + "/BACKUP_MANIFEST"), "here");
  EXPECT_EQ(get(*store, later + "/BACKUP_MANIFEST"), "there");
  EXPECT_THAT(store->list_directories(incrementals_of(kFull), stop_),
              ElementsAre("20261120", "20261121"));
  put(here_, kFull + "/BACKUP_MANIFEST");
  EXPECT_THAT(list_layers(*store, kFull, stop_), ElementsAre(kFull, kLocatedLayer, later));
}

TEST_F(IncrementalLocationTest, OtherFullsInTheOtherPlaceAreNotSeen) {
  put(there_, kLayerElsewhere + "/BACKUP_MANIFEST");
  const auto store = located(there_);
  EXPECT_THAT(keys(*store), IsEmpty());
  EXPECT_FALSE(store->stat(kLocatedLayer + "/BACKUP_MANIFEST", stop_));
  store->remove(kLocatedLayer + "/BACKUP_MANIFEST", stop_);
  EXPECT_THAT(keys(there_), ElementsAre(kLayerElsewhere + "/BACKUP_MANIFEST"));
  put(*store, kLocatedLayer + "/data/1.pack");
  EXPECT_THAT(keys(here_), ElementsAre(kLocatedLayer + "/data/1.pack"));
}

TEST_F(IncrementalLocationTest, WhoDoesNotGiveThePlaceIsTold) {
  located(there_)->claim(kFull, Claim::Take, Viewer::Administrator, stop_);
  EXPECT_EQ(hidden_incrementals(here_, kFull, Viewer::Administrator, stop_), "\"memory://there\"");
  EXPECT_EQ(hidden_incrementals(*located(there_), kFull, Viewer::Administrator, stop_),
            std::nullopt);
  EXPECT_EQ(hidden_incrementals(*located(third_), kFull, Viewer::Administrator, stop_),
            "\"memory://there\"");
  EXPECT_EQ(hidden_incrementals(here_, "2026/11/21-223000.00", Viewer::Administrator, stop_),
            std::nullopt);
  EXPECT_THROW(require_no_hidden_incrementals(here_, kFull, Viewer::Administrator, stop_), Error);
  here_.put(incremental_location_key(kFull), as_bytes("junk"), PutMode::Overwrite, stop_);
  EXPECT_TRUE(hidden_incrementals(here_, kFull, Viewer::Administrator, stop_));
}

TEST_F(IncrementalLocationTest, AChainHasOneOtherPlace) {
  located(there_)->claim(kFull, Claim::Take, Viewer::Administrator, stop_);
  located(there_)->claim(kFull, Claim::Take, Viewer::Administrator, stop_);
  EXPECT_THAT(refused(*located(third_)), HasSubstr("They are in \"memory://there\""));
  EXPECT_THAT(keys(third_), IsEmpty());
}

TEST_F(IncrementalLocationTest, TwoCollectionsWithAFullOfOneNameDoNotMix) {
  MemoryStore other("memory://other");
  LocatedStore(std::make_unique<Lent>(other), std::make_unique<Lent>(there_), "")
      .claim(kFull, Claim::Take, Viewer::Administrator, stop_);
  EXPECT_THAT(refused(*located(there_)), HasSubstr("another full backup"));
  EXPECT_THAT(keys(here_), IsEmpty());
}

TEST_F(IncrementalLocationTest, AClaimThatWasInterruptedIsFinished) {
  located(there_)->claim(kFull, Claim::Take, Viewer::Administrator, stop_);
  there_.remove(kFull + "/FULL-LOCATION", stop_);
  EXPECT_THAT(refused(*located(third_)), HasSubstr("memory://there"));
  located(there_)->claim(kFull, Claim::Take, Viewer::Administrator, stop_);
  EXPECT_EQ(hidden_incrementals(*located(there_), kFull, Viewer::Administrator, stop_),
            std::nullopt);
}

TEST_F(IncrementalLocationTest, APlaceThatCannotBeWrittenToTiesNothing) {
  put(here_, kFull + "/BACKUP_MANIFEST", "of this full");
  auto faulty = std::make_unique<storage::FaultStore>(std::make_unique<Lent>(there_));
  faulty->add({.call = storage::StoreCall::Put, .key_pattern = "*"});
  LocatedStore store(std::make_unique<Lent>(here_), std::move(faulty), "");
  EXPECT_THROW(store.claim(kFull, Claim::Take, Viewer::Administrator, stop_), Error);
  EXPECT_THAT(keys(here_), ElementsAre(kFull + "/BACKUP_MANIFEST"));
}

TEST_F(IncrementalLocationTest, AClaimThatEndedAfterTheOtherPlaceIsFinishedByTheSameChainOnly) {
  put(here_, kFull + "/BACKUP_MANIFEST", "of this full");
  located(there_)->claim(kFull, Claim::Take, Viewer::Administrator, stop_);
  here_.remove(incremental_location_key(kFull), stop_);
  located(there_)->claim(kFull, Claim::OnlyCheck, Viewer::Administrator, stop_);
  MemoryStore other("memory://here");
  put(other, kFull + "/BACKUP_MANIFEST", "of another one of that name");
  LocatedStore of_other(std::make_unique<Lent>(other), std::make_unique<Lent>(there_), "");
  EXPECT_THAT(refused(of_other), HasSubstr("another full backup"));
  located(there_)->claim(kFull, Claim::Take, Viewer::Administrator, stop_);
  EXPECT_EQ(hidden_incrementals(*located(there_), kFull, Viewer::Administrator, stop_),
            std::nullopt);
}

TEST_F(IncrementalLocationTest, WhereAPlaceIsIsShownToAdministratorsOrByItsConnectionsName) {
  located(there_)->claim(kFull, Claim::Take, Viewer::Other, stop_);
  EXPECT_EQ(hidden_incrementals(here_, kFull, Viewer::Other, stop_),
            "a place that is shown to administrators");
  const std::string second = "2026/11/21-223000.00";
  LocatedStore named(std::make_unique<Lent>(here_), std::make_unique<Lent>(there_),
                     "external://prepared/below");
  named.claim(second, Claim::Take, Viewer::Other, stop_);
  EXPECT_EQ(hidden_incrementals(here_, second, Viewer::Other, stop_),
            "\"external://prepared/below\"");
  EXPECT_EQ(hidden_incrementals(here_, second, Viewer::Administrator, stop_),
            "\"external://prepared/below\" (\"memory://there\")");
  LocatedStore other(std::make_unique<Lent>(here_), std::make_unique<Lent>(third_),
                     "external://other");
  const auto said = [&](const std::string& full, Viewer viewer) {
    try {
      other.claim(full, Claim::OnlyCheck, viewer, stop_);
    } catch (const Error& error) {
      return error.message() + " " + error.detail();
    }
    return std::string("not refused");
  };
  EXPECT_THAT(said(kFull, Viewer::Other), Not(HasSubstr("memory://")));
  EXPECT_THAT(said(kFull, Viewer::Administrator), HasSubstr("memory://there"));
  EXPECT_THAT(said(second, Viewer::Other), HasSubstr("They are in \"external://prepared/below\""));
}

TEST_F(IncrementalLocationTest, ACheckWritesNothing) {
  located(there_)->claim(kFull, Claim::OnlyCheck, Viewer::Administrator, stop_);
  EXPECT_THAT(keys(here_), IsEmpty());
  EXPECT_THAT(keys(there_), IsEmpty());
}

TEST_F(IncrementalLocationTest, ThePlacesCannotBeOne) {
  EXPECT_THROW(located(here_), Error);
  MemoryStore usual("memory://here/incrementals");
  EXPECT_TRUE(LocatedStore::is_usual_place(here_, usual));
  EXPECT_FALSE(LocatedStore::is_usual_place(here_, there_));
  MemoryStore with_parameters("s3://bucket/archive?AUTH=implicit");
  MemoryStore below("s3://bucket/archive/incrementals?AUTH=implicit");
  EXPECT_TRUE(LocatedStore::is_usual_place(with_parameters, below));
}

TEST_F(IncrementalLocationTest, EncryptedLayersAreBoundToTheirNamesInTheCollection) {
  const CollectionKeys keys_of_chain{
      .chain = CollectionKeys::Chain{.full = kFull, .key = crypto::SecretKey::random()}, .wal = {}};
  located(there_)->claim(kFull, Claim::Take, Viewer::Administrator, stop_);
  const auto store = with_keys(located(there_), keys_of_chain);
  put(*store, kLocatedLayer + "/data/1.pack", "plain text");
  EXPECT_EQ(get(*store, kLocatedLayer + "/data/1.pack"), "plain text");
  EXPECT_EQ(get(there_, kLayerElsewhere + "/data/1.pack").find("plain text"), std::string::npos);
  EXPECT_EQ(hidden_incrementals(*with_keys(std::make_unique<Lent>(here_), keys_of_chain), kFull,
                                Viewer::Administrator, stop_),
            "\"memory://there\"");
  // Moved into the collection it is still the same object.
  put(here_, kLocatedLayer + "/data/1.pack", get(there_, kLayerElsewhere + "/data/1.pack"));
  there_.remove(kLayerElsewhere + "/data/1.pack", stop_);
  EXPECT_EQ(get(*with_keys(located(there_), keys_of_chain), kLocatedLayer + "/data/1.pack"),
            "plain text");
}

TEST_F(IncrementalLocationTest, ACollectionThatIsTheOtherPlaceOfAnotherKnowsItsOwn) {
  put(here_, kLayerElsewhere + "/BACKUP_MANIFEST");
  put(here_, kLayerElsewhere + "/data/1.pack");
  put(here_, kFull + "/FULL-LOCATION");
  const Survey survey = Surveyor(here_).survey(stop_);
  EXPECT_THAT(survey.chains, IsEmpty());
  EXPECT_THAT(survey.unfinished, IsEmpty());
  put(here_, kFull + "/data/1.pack");
  remove_unfinished(here_, kFull, stop_);
  EXPECT_THAT(keys(here_),
              UnorderedElementsAre(kLayerElsewhere + "/BACKUP_MANIFEST",
                                   kLayerElsewhere + "/data/1.pack", kFull + "/FULL-LOCATION"));
}

}  // namespace
}  // namespace holdfast::collection

namespace holdfast::storage {

struct MakeLocatedStore {
  std::unique_ptr<ObjectStore> operator()() {
    return std::make_unique<collection::LocatedStore>(std::make_unique<MemoryStore>("memory://a"),
                                                      std::make_unique<MemoryStore>("memory://b"),
                                                      "");
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Located, ObjectStoreContract, MakeLocatedStore);

}  // namespace holdfast::storage
