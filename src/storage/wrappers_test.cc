#include "storage/wrappers.h"

#include <gtest/gtest.h>

#include <thread>

#include "storage/fault_store.h"
#include "storage/memory_store.h"

namespace holdfast::storage {
namespace {

using namespace std::chrono_literals;

class RetryTest : public ::testing::Test {
 protected:
  RetryTest() {
    auto faults = std::make_unique<FaultStore>(std::make_unique<MemoryStore>());
    faults_ = faults.get();
    store_ =
        with_retry(std::move(faults), {.attempts = 3, .first_delay = 0ms, .longest_delay = 0ms});
  }
  static Error safe() { return Error(sqlstate::kIoError, "away").retry(Retry::Safe); }
  void fail(StoreCall call, FaultKind kind, unsigned times, const Error& error) {
    StoreFault fault;
    fault.call = call;
    fault.kind = kind;
    fault.times = times;
    fault.error = error;
    faults_->add(fault);
  }

  FaultStore* faults_ = nullptr;
  std::unique_ptr<ObjectStore> store_;
  Stop stop_ = Stop::never();
};

TEST_F(RetryTest, RepeatsWhatIsSafe) {
  fail(StoreCall::Put, FaultKind::Fail, 2, safe());
  EXPECT_EQ(store_->put("k", as_bytes("x"), PutMode::OnlyIfAbsent, stop_), PutResult::Stored);
  EXPECT_EQ(faults_->calls(StoreCall::Put), 3U);
}

TEST_F(RetryTest, GivesUpAfterItsAttempts) {
  fail(StoreCall::Stat, FaultKind::Fail, 10, safe());
  EXPECT_THROW(store_->stat("k", stop_), Error);
  EXPECT_EQ(faults_->calls(StoreCall::Stat), 3U);
}

TEST_F(RetryTest, GivesUpSoonerOnWhatMayNotExist) {
  auto faults = std::make_unique<FaultStore>(std::make_unique<MemoryStore>());
  faults_ = faults.get();
  store_ = with_retry(std::move(faults), {.attempts = 8, .first_delay = 0ms});
  fail(StoreCall::Stat, FaultKind::Fail, 10,
       Error(sqlstate::kInvalidAuthorization, "none").retry(Retry::Briefly));
  EXPECT_THROW(store_->stat("k", stop_), Error);
  EXPECT_EQ(faults_->calls(StoreCall::Stat), 3U);
}

TEST_F(RetryTest, DoesNotRepeatOtherFailures) {
  fail(StoreCall::Remove, FaultKind::Fail, 1, Error(sqlstate::kIoError, "broken"));
  EXPECT_THROW(store_->remove("k", stop_), Error);
  EXPECT_EQ(faults_->calls(StoreCall::Remove), 1U);
}

TEST_F(RetryTest, APutWhoseAnswerWasLostCountsAsStored) {
  fail(StoreCall::Put, FaultKind::FailAfter, 1, safe());
  EXPECT_EQ(store_->put("k", as_bytes("x"), PutMode::OnlyIfAbsent, stop_), PutResult::Stored);
  EXPECT_EQ(faults_->calls(StoreCall::Put), 2U);
}

TEST_F(RetryTest, ANameThatIsReallyTakenStaysTaken) {
  store_->put("k", as_bytes("other"), PutMode::OnlyIfAbsent, stop_);
  fail(StoreCall::Put, FaultKind::Fail, 1, safe());
  EXPECT_EQ(store_->put("k", as_bytes("x"), PutMode::OnlyIfAbsent, stop_), PutResult::Taken);
}

TEST_F(RetryTest, AListIsVisitedOnce) {
  store_->put("k", as_bytes("x"), PutMode::OnlyIfAbsent, stop_);
  fail(StoreCall::List, FaultKind::FailAfter, 1, safe());
  int visited = 0;
  store_->list(
      "", [&](const ObjectInfo&) { ++visited; }, stop_);
  EXPECT_EQ(visited, 1);
}

TEST_F(RetryTest, WaitsAsLongAsTheServerAsks) {
  Error busy = safe();
  busy.retry_after(60ms);
  fail(StoreCall::Stat, FaultKind::Fail, 1, busy);
  const auto start = std::chrono::steady_clock::now();
  store_->stat("k", stop_);
  EXPECT_GE(std::chrono::steady_clock::now() - start, 60ms);
}

TEST_F(RetryTest, AStopEndsTheWaitBetweenAttempts) {
  auto faults = std::make_unique<FaultStore>(std::make_unique<MemoryStore>());
  StoreFault fault;
  fault.call = StoreCall::Stat;
  fault.times = 100;
  fault.error = safe();
  faults->add(fault);
  const auto slow =
      with_retry(std::move(faults), {.attempts = 100, .first_delay = 1h, .longest_delay = 1h});
  StopSource source;
  std::jthread stopper([&] { source.request(StopReason::Shutdown); });
  EXPECT_THROW(slow->stat("k", source.stop()), Stopped);
}

TEST(FaultStoreTest, LiesTruncatesAndFlips) {
  auto memory = std::make_unique<MemoryStore>();
  MemoryStore* real = memory.get();
  FaultStore store(std::move(memory));
  const Stop stop = Stop::never();
  const auto add = [&](FaultKind kind, const std::string& pattern, std::int64_t position) {
    StoreFault fault;
    fault.kind = kind;
    fault.key_pattern = pattern;
    fault.position = position;
    store.add(fault);
  };
  add(FaultKind::Lie, "lost/*", 0);
  add(FaultKind::Truncate, "short/*", 2);
  add(FaultKind::Flip, "bent/*", -1);
  for (const char* key : {"lost/k", "short/k", "bent/k", "fine/k"}) {
    EXPECT_EQ(store.put(key, as_bytes("abcd"), PutMode::OnlyIfAbsent, stop), PutResult::Stored);
  }
  EXPECT_FALSE(real->stat("lost/k", stop));
  EXPECT_EQ(as_text(*get_whole(*real, "short/k", 10, stop)), "ab");
  EXPECT_EQ(as_text(*get_whole(*real, "bent/k", 10, stop)), "abce");
  EXPECT_EQ(as_text(*get_whole(*real, "fine/k", 10, stop)), "abcd");
}

TEST(FaultStoreTest, AStallEndsWithTheStop) {
  FaultStore store(std::make_unique<MemoryStore>());
  StoreFault fault;
  fault.call = StoreCall::Get;
  fault.kind = FaultKind::Stall;
  store.add(fault);
  StopSource source;
  std::jthread stopper([&] { source.request(StopReason::Pause); });
  Bytes bytes(1);
  EXPECT_THROW(store.get_into("k", 0, bytes, source.stop()), Stopped);
}

TEST(RateLimitTest, CountsTheBytesOfPutsAndGetsApart) {
  // A quarter of a second's worth is saved up.
  const auto store = with_rate_limit(std::make_unique<MemoryStore>(),
                                     std::make_shared<RateLimits>(5'000'000, 10'000'000));
  const Stop stop = Stop::never();
  auto start = std::chrono::steady_clock::now();
  store->put("a", Bytes(2'500'000), PutMode::OnlyIfAbsent, stop);
  store->put("b", Bytes(1'000'000), PutMode::OnlyIfAbsent, stop);
  EXPECT_GE(std::chrono::steady_clock::now() - start, 99ms);
  start = std::chrono::steady_clock::now();
  Bytes bytes(1'250'000);
  store->get_into("a", 0, bytes, stop);
  bytes.resize(500'000);
  store->get_into("a", 0, bytes, stop);
  EXPECT_GE(std::chrono::steady_clock::now() - start, 99ms);
}

}  // namespace
}  // namespace holdfast::storage
