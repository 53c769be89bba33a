#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <set>

#include "collection/deletion_marks.h"
#include "retention/retention_job.h"
#include "retention/testing/retention_lab.h"

namespace holdfast::retention {
namespace {

using ::testing::IsEmpty;
using testing::LabJob;
using namespace std::chrono_literals;

struct Killed {};

/// Fulls, incrementals, deletions, crashes and failures of the storage, in any order; after every
/// step what is listed must be whole.
class RetentionPropertyTest : public ::testing::TestWithParam<unsigned> {
 protected:
  bool chance(double probability) { return std::bernoulli_distribution(probability)(random_); }
  std::size_t below(std::size_t bound) {
    return std::uniform_int_distribution<std::size_t>(0, bound - 1)(random_);
  }
  void say(std::string what) { story_ += "\n  " + std::move(what); }

  void back_up() {
    const std::uint64_t first = next_segment_;
    next_segment_ += 1 + below(3);
    const auto fulls = lab_.fulls();
    if (fulls.empty() || chance(0.4)) {
      say("full " + lab_.full(first, next_segment_ - 1));
      return;
    }
    const std::string& onto = fulls[below(fulls.size())];
    if (!collection::deletion_marks(lab_.store, onto, stop_).empty()) {
      next_segment_ = first;
      return say("refused");
    }
    say("incremental " + lab_.incremental(onto, first, next_segment_ - 1));
  }

  /// An archive keeps what comes between backups too.
  void write_wal() {
    lab_.put_wal(next_segment_++);
    say("WAL");
  }

  void leave_something_unfinished() {
    lab_.clock.advance(1s);
    const auto directory = collection::subdirectory_for(lab_.clock.now());
    lab_.put(directory + "/data/1.pack");
    if (chance(0.5)) lab_.put(collection::lock_key(directory, 12345));
    say("unfinished " + directory);
  }

  void begin_deletion() {
    proto::RetentionJobSpec spec = lab_.keep(1 + static_cast<std::uint32_t>(below(4)));
    if (chance(0.5)) {
      spec = lab_.older_than(lab_.clock.now() - std::chrono::hours(below(60)));
      if (chance(0.3)) spec.set_keep_fulls(2);
    }
    job_ = std::make_unique<LabJob>(lab_.registry(), lab_.create(spec));
    go_on_with_deletion();
  }

  void go_on_with_deletion() {
    std::size_t reached = 0;
    const std::size_t die_at = chance(0.6) ? below(20) : 1000;
    job_->at_point = [&](std::string_view point) {
      EXPECT_THAT(lab_.broken(), IsEmpty()) << point << story_;
      if (reached++ == die_at) throw Killed();
    };
    if (chance(0.4)) break_storage();
    try {
      lab_.resume(*job_);
      lab_.registry().succeed(job_->id(), job_->rows());
      say("deletion ends");
      job_.reset();
    } catch (const Killed&) {
      say("deletion is killed");
    } catch (const Error& error) {
      say("deletion fails: " + error.message());
      if (chance(0.3)) cancel();
    }
    mend_storage();
  }

  void cancel() {
    try {
      lab_.revert(*job_);
      lab_.registry().succeed(job_->id(), 0);  // any end will do
      say("deletion is canceled");
      job_.reset();
    } catch (const Error&) {
      say("cancel fails");
    }
  }

  void break_storage() {
    using storage::FaultKind;
    using storage::StoreCall;
    constexpr StoreCall kCalls[] = {StoreCall::Put, StoreCall::Get, StoreCall::List,
                                    StoreCall::Remove, StoreCall::Remove};
    const storage::StoreFault fault{
        .call = kCalls[below(5)],
        .kind = chance(0.5) ? FaultKind::Fail : FaultKind::FailAfter,
        .nth = 1 + static_cast<unsigned>(below(12)),
        .error = chance(0.3) ? Error(sqlstate::kInsufficientPrivilege, "object is locked")
                             : Error(sqlstate::kIoError, "storage is away")};
    lab_.open = [this, fault] {
      auto store =
          std::make_unique<storage::FaultStore>(std::make_unique<testing::SharedStore>(lab_.store));
      store->add(fault);
      return store;
    };
  }

  void mend_storage() {
    lab_.open = [this] { return std::make_unique<testing::SharedStore>(lab_.store); };
  }

  void step() {
    if (chance(0.3)) lab_.clock.advance(std::chrono::hours(below(80)));
    const std::size_t what = below(10);
    if (what < 4) return back_up();
    if (what < 5) return archive_ ? write_wal() : leave_something_unfinished();
    if (!job_) return begin_deletion();
    if (chance(0.2)) return cancel();
    go_on_with_deletion();
  }

  void check() {
    ASSERT_THAT(lab_.broken(), IsEmpty()) << story_;
    const auto fulls = lab_.fulls();
    ASSERT_FALSE(fulls.empty()) << story_;
    if (!archive_) return;
    // Any moment from the oldest chain's start on.
    std::uint64_t oldest = next_segment_;
    for (const std::string& full : fulls) {
      const auto manifest = collection::read_manifest(lab_.store, full, stop_);
      oldest = std::min(oldest, manifest->start().position() / lab_.kSegmentBytes);
    }
    const auto there = lab_.wal();
    const std::set<std::uint64_t> segments(there.begin(), there.end());
    for (std::uint64_t segment = oldest; segment < next_segment_; ++segment) {
      ASSERT_TRUE(segments.contains(segment)) << segment << story_;
    }
  }

  testing::RetentionLab lab_;
  std::mt19937 random_{GetParam()};
  const bool archive_ = GetParam() % 2 == 1;
  std::uint64_t next_segment_ = 10;
  std::unique_ptr<LabJob> job_;
  std::string story_ = fmt::format("seed {}", GetParam());
  Stop stop_ = Stop::never();
};

TEST_P(RetentionPropertyTest, WhatIsListedIsAlwaysWhole) {
  if (archive_) collection::mark_wal_archive(lab_.store, lab_.kSystem, stop_);
  back_up();
  for (int i = 0; i < 40; ++i) {
    step();
    check();
    if (HasFailure()) return;
  }
  // In the end, all that is over can go.
  if (job_) {
    job_->at_point = [](std::string_view) {};
    lab_.resume(*job_);
    lab_.registry().succeed(job_->id(), 0);
  }
  check();
  lab_.clock.advance(200h);
  // No other chain reaches further.
  say("full " + lab_.full(next_segment_, next_segment_));
  ++next_segment_;
  lab_.run(lab_.keep(1));
  check();
  const auto fulls = lab_.fulls();
  ASSERT_EQ(fulls.size(), 1U) << story_;
  for (const std::string& key : lab_.objects()) {
    EXPECT_TRUE(key.starts_with(fulls[0]) || key.starts_with("incrementals/" + fulls[0]) ||
                key.starts_with("metadata/") || key.starts_with("wal/"))
        << key << story_;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, RetentionPropertyTest, ::testing::Range(1U, 25U));

}  // namespace
}  // namespace holdfast::retention
