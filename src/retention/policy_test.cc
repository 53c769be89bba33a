#include "retention/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace holdfast::retention {
namespace {

using collection::SurveyedChain;
using testing::ElementsAre;
using testing::HasSubstr;

const Time kNow = *parse_timestamp("2026-11-20 12:00:00+00");

/// Chains that end this many days ago, oldest first.
std::vector<SurveyedChain> chains(std::initializer_list<int> days_ago) {
  std::vector<SurveyedChain> all;
  for (const int days : days_ago) {
    const auto time = kNow - std::chrono::days(days);
    SurveyedChain chain{.full = std::to_string(all.size())};
    auto& layer = chain.layers.emplace_back();
    layer.set_start_time_us(time.time_since_epoch().count() - 1);
    layer.set_end_time_us(time.time_since_epoch().count());
    all.push_back(std::move(chain));
  }
  return all;
}

std::vector<bool> gone(const std::vector<SurveyedChain>& all, const Rule& rule,
                       const InUse& in_use = {}) {
  std::vector<bool> result;
  for (const Verdict& verdict : judge(all, rule, in_use)) {
    EXPECT_NE(verdict.reason, "");
    result.push_back(verdict.goes);
  }
  return result;
}

Rule older(int days) { return {.older_than = kNow - std::chrono::days(days)}; }
Rule keep(std::uint32_t fulls) { return {.keep_fulls = fulls}; }

TEST(Policy, AgeIsThatOfTheNewestLayer) {
  EXPECT_THAT(gone(chains({9, 7, 5, 1}), older(7)), ElementsAre(true, false, false, false));
  auto all = chains({9, 1});
  all[0].layers.push_back(all[1].layers[0]);
  EXPECT_THAT(gone(all, older(7)), ElementsAre(false, false));
}

TEST(Policy, KeepsAsManyFullsAsItIsTold) {
  EXPECT_THAT(gone(chains({4, 3, 2, 1}), keep(2)), ElementsAre(true, true, false, false));
  EXPECT_THAT(gone(chains({4, 3}), keep(2)), ElementsAre(false, false));
}

TEST(Policy, ChainsOfAnotherScopeDoNotCount) {
  auto all = chains({6, 5, 4, 3, 2, 1});
  for (const std::size_t i : {2, 3, 4, 5}) {
    auto& database = *all[i].layers.front().add_scope_databases();
    database.set_oid(5);
    if (i != 5) database.add_tables()->set_oid(20000);
  }
  // The database's has the table, too.
  EXPECT_THAT(gone(all, keep(1)), ElementsAre(true, false, true, true, true, false));
  EXPECT_THAT(gone(all, keep(2)), ElementsAre(false, false, true, true, false, false));
  // Of each the last one stays, however old.
  EXPECT_THAT(gone(all, older(0)), ElementsAre(true, false, true, true, true, false));
  // Another database's does not stand for it; nor does one that cannot be restored.
  all[5].layers.front().mutable_scope_databases(0)->set_oid(6);
  EXPECT_THAT(gone(all, older(0)), ElementsAre(true, false, true, true, false, false));
  all[5].layers.front().mutable_scope_databases(0)->set_oid(5);
  all[5].missing = "1.pack";
  EXPECT_THAT(gone(all, older(0)), ElementsAre(true, false, true, true, false, false));
}

TEST(Policy, ChainsOfAnotherServerDoNotCount) {
  auto all = chains({3, 2, 1});
  all[1].layers.front().mutable_instance()->set_system_identifier(7);
  EXPECT_THAT(gone(all, keep(1)), ElementsAre(true, false, false));
  EXPECT_THAT(gone(all, older(0)), ElementsAre(true, false, false));
}

/// A chain of these tables of one database.
void set_tables(SurveyedChain& chain, std::initializer_list<std::uint32_t> tables) {
  auto& database = *chain.layers.front().add_scope_databases();
  database.set_oid(5);
  for (const auto table : tables) database.add_tables()->set_oid(table);
}

TEST(Policy, ChainsOfMoreTablesStandForThoseOfFewer) {
  // As s.* gives them while tables are added, and one is dropped at last.
  auto all = chains({5, 4, 3, 2, 1});
  set_tables(all[0], {1});
  set_tables(all[1], {1, 2});
  set_tables(all[2], {1, 2, 3});
  set_tables(all[3], {1, 3});
  set_tables(all[4], {1, 3, 4});
  EXPECT_THAT(gone(all, keep(1)), ElementsAre(true, true, false, true, false));
  EXPECT_THAT(gone(all, keep(2)), ElementsAre(true, false, false, false, false));
  // Nobody else has table 2.
  EXPECT_THAT(judge(all, older(0), {})[2].reason, kLastRestorable);
  // One that stays for another reason is enough, whichever is the older.
  const InUse in_use{{"2", "restore job 5 reads it"}};
  EXPECT_THAT(gone(all, older(0), in_use), ElementsAre(true, true, false, true, false));
}

TEST(Policy, DamagedChainsDoNotCountAmongThoseThatAreKept) {
  auto all = chains({4, 3, 2, 1});
  all[3].missing = "1.pack";
  all[1].missing = "1.pack";
  EXPECT_THAT(gone(all, keep(1)), ElementsAre(true, true, false, false));
  EXPECT_THAT(gone(all, keep(2)), ElementsAre(false, false, false, false));
}

TEST(Policy, AFullOfAnEarlierMomentStandsForNoneThatReachesFurther) {
  auto all = chains({9, 5});
  // The full of nine days ago goes on until yesterday; that of five days ago was made of it now.
  all[0].layers.push_back(chains({1})[0].layers[0]);
  auto& made = all[1].layers.front();
  made.set_start_time_us(kNow.time_since_epoch().count());
  EXPECT_EQ(all[1].end(), kNow - std::chrono::days(5));
  EXPECT_THAT(gone(all, keep(1)), ElementsAre(false, false));
  EXPECT_THAT(gone(all, older(3)), ElementsAre(false, true));
  // One that reaches as far stands for both.
  all.push_back(chains({1})[0]);
  all.back().full = "2";
  EXPECT_THAT(gone(all, keep(1)), ElementsAre(true, true, false));
}

TEST(Policy, BothClausesMustLetItGo) {
  Rule rule = older(3);
  rule.keep_fulls = 3;
  EXPECT_THAT(gone(chains({9, 8, 7, 6}), rule), ElementsAre(true, false, false, false));
  EXPECT_THAT(gone(chains({9, 2, 1, 0}), rule), ElementsAre(true, false, false, false));
  EXPECT_THAT(gone(chains({2, 1, 1, 0}), rule), ElementsAre(false, false, false, false));
}

TEST(Policy, TheLastThatCanBeRestoredStays) {
  EXPECT_THAT(gone(chains({9, 8, 7}), older(1)), ElementsAre(true, true, false));
  auto all = chains({9, 8, 7});
  all[2].missing = "1.pack";
  EXPECT_THAT(gone(all, older(1)), ElementsAre(true, false, true));
  all[1].unreadable = "newer format";
  EXPECT_THAT(gone(all, older(1)), ElementsAre(false, false, true));
  EXPECT_THAT(judge(all, older(1), {})[0].reason, kLastRestorable);
}

TEST(Policy, NothingGoesWhereNothingIsWhole) {
  auto all = chains({9, 8});
  all[0].missing = all[1].missing = "1.pack";
  EXPECT_THAT(gone(all, older(1)), ElementsAre(false, false));
}

TEST(Policy, WhatIsUsedStaysAndSaysWhy) {
  const auto all = chains({9, 8, 7, 1});
  const InUse in_use{{"1", "restore job 5 reads it"}};
  EXPECT_THAT(gone(all, older(3), in_use), ElementsAre(true, false, true, false));
  EXPECT_THAT(judge(all, older(3), in_use)[1].reason, HasSubstr("restore job 5"));
}

}  // namespace
}  // namespace holdfast::retention
