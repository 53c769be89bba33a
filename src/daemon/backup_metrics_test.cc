#include "daemon/backup_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace holdfast::daemon {
namespace {

using testing::HasSubstr;
using testing::Not;

class BackupMetricsTest : public ::testing::Test {
 protected:
  static std::filesystem::path make_directory() {
    std::string name =
        (std::filesystem::temp_directory_path() / "holdfast-metrics-XXXXXX").string();
    return mkdtemp(name.data());
  }
  ~BackupMetricsTest() override { std::filesystem::remove_all(store_); }

  static Time at(std::int64_t seconds) { return Time(std::chrono::seconds(seconds)); }
  void ended(const std::string& description, const std::string& status, const std::string& error) {
    history_.add({.job_id = 1,
                  .type = "BACKUP",
                  .description = description,
                  .statement = description,
                  .user_name = "ann",
                  .status = status,
                  .started = at(1000),
                  .finished = at(1060),
                  .error_state = error,
                  .result_bytes = 5000});
  }
  std::string text() { return backup_metrics(schedules_, history_, at(1100)); }

  std::filesystem::path store_ = make_directory();
  state::Database database_{store_};
  schedule::Schedules schedules_{database_, 1};
  state::History history_{database_};
};

TEST_F(BackupMetricsTest, TellsAboutSchedules) {
  {
    schedule::Schedules::Edit edit(schedules_);
    edit.insert({.id = 7,
                 .label = "every \"night\"",
                 .owner = "ann",
                 .database = "bank",
                 .created = at(100),
                 .statement = "BACKUP INTO 'x'",
                 .recurrence = "@daily",
                 .time_zone = {},
                 .updates_last_backup_metric = true,
                 .next_run = at(2000),
                 .last_success = at(1060),
                 .successes = 3,
                 .failures = 1});
    edit.commit();
  }
  const std::string labels = R"({schedule_id="7",label="every \"night\"",backup_type="full")";
  EXPECT_THAT(text(), HasSubstr("holdfast_schedule_last_success_timestamp_seconds" + labels +
                                "} 1060.000\n"));
  EXPECT_THAT(text(),
              HasSubstr("holdfast_schedule_last_success_age_seconds" + labels + "} 40.000\n"));
  EXPECT_THAT(text(), HasSubstr("holdfast_schedule_paused" + labels + "} 0.000\n"));
  EXPECT_THAT(text(),
              HasSubstr("holdfast_schedule_runs_total" + labels + ",result=\"failure\"} 1.000\n"));
  EXPECT_THAT(text(), HasSubstr("holdfast_schedules_last_backup_timestamp_seconds 1060.000\n"));
}

TEST_F(BackupMetricsTest, TellsAboutCollectionsWithoutTheirParameters) {
  ended("BACKUP INTO '/2026/11/20-223000.00' IN 's3://b/p?AWS_ACCESS_KEY_ID=id'", "succeeded", "");
  ended("BACKUP INTO 's3://b/p?AWS_ACCESS_KEY_ID=id'", "failed", "53100");
  ended("BACKUP INTO 's3://b/p?AWS_ACCESS_KEY_ID=id'", "failed", "53100");
  ended("no statement", "failed", "XX000");
  ended("BACKUP INTO 'https://ann:hush@h/p'", "failed", "08006");
  ended("BACKUP INTO 'https://hush@h/q'", "failed", "08006");
  EXPECT_THAT(text(), HasSubstr("holdfast_collection_last_success_age_seconds"
                                "{collection=\"s3://b/p\"} 40.000\n"));
  EXPECT_THAT(text(), HasSubstr("holdfast_collection_last_success_duration_seconds"
                                "{collection=\"s3://b/p\"} 60.000\n"));
  EXPECT_THAT(text(), HasSubstr("holdfast_collection_last_success_stored_bytes"
                                "{collection=\"s3://b/p\"} 5000.000\n"));
  EXPECT_THAT(text(), HasSubstr("holdfast_collection_failures_total"
                                "{collection=\"s3://b/p\",reason=\"53100\"} 2.000\n"));
  EXPECT_THAT(text(), HasSubstr("{collection=\"https://h/p\",reason=\"08006\"} 1.000\n"));
  EXPECT_THAT(text(), HasSubstr("{collection=\"https://h/q\",reason=\"08006\"} 1.000\n"));
  EXPECT_THAT(text(), Not(HasSubstr("ACCESS_KEY")));
  EXPECT_THAT(text(), Not(HasSubstr("ann")));
  EXPECT_THAT(text(), Not(HasSubstr("hush")));
}

}  // namespace
}  // namespace holdfast::daemon
