#include "statements/show_jobs.h"

#include <fmt/format.h>

#include <chrono>

#include "base/assert.h"
#include "base/error.h"
#include "sql/columns.h"
#include "statements/job_rights.h"

namespace holdfast::statements {

namespace {

using sql::ShowJobs;

// Source: CockroachDB 25.4: the filter of SHOW JOBS, and the limit of SHOW JOBS WHEN COMPLETE.
constexpr std::chrono::hours kListed{12};
constexpr std::chrono::hours kLongestWait{24};

constexpr std::size_t kShortDescription = 70;
constexpr std::size_t kDescriptionHead = 60;
constexpr std::size_t kDescriptionTail = 7;

void refuse_unsupported(const ShowJobs& statement) {
  const auto refuse = [](std::string_view what, std::string_view why) {
    throw Error(sqlstate::kFeatureNotSupported, fmt::format("{} is not supported", what))
        .detail(std::string(why));
  };
  if (statement.form == ShowJobs::Form::Changefeed) {
    refuse("SHOW CHANGEFEED JOBS", "PostgreSQL has no changefeeds.");
  }
  if (statement.options.flag("execution details")) {
    refuse("SHOW JOB WITH EXECUTION DETAILS", "Jobs have no execution plans.");
  }
  if (statement.options.flag("resolved timestamp")) {
    refuse("SHOW JOB WITH RESOLVED TIMESTAMP", "Resolved timestamps belong to changefeeds.");
  }
}

bool starts_character(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) != 0x80; }

/// The byte at which character number `count` of UTF-8 text begins.
std::size_t offset_of_character(std::string_view text, std::size_t count) {
  std::size_t seen = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (starts_character(text[at]) && seen++ == count) return at;
  }
  return text.size();
}

}  // namespace

std::string shorten_description(std::string_view description) {
  std::size_t characters = 0;
  for (const char byte : description) characters += starts_character(byte) ? 1 : 0;
  if (characters <= kShortDescription) return std::string(description);
  return fmt::format(
      "{} … {}", description.substr(0, offset_of_character(description, kDescriptionHead)),
      description.substr(offset_of_character(description, characters - kDescriptionTail)));
}

std::string text_array(const std::vector<std::string>& elements) {
  std::string array = "{";
  for (const std::string& element : elements) {
    if (array.size() > 1) array += ',';
    array += '"';
    for (const char c : element) {
      if (c == '"' || c == '\\') array += '\\';
      array += c;
    }
    array += '"';
  }
  return array + '}';
}

void ShowJobsStatement::run(const ShowJobs& statement, sql::SessionContext& session,
                            sql::RowSink& sink, const Stop& stop) {
  refuse_unsupported(statement);
  const std::optional<jobs::JobFilter> filter = filter_for(statement, session, stop);
  std::vector<jobs::Job> jobs;
  if (filter) {
    jobs = registry_.list(*filter);
    if (statement.when_complete) {
      std::vector<jobs::JobId> ids;
      for (const jobs::Job& job : jobs) ids.push_back(job.id);
      if (!runner_.wait_all(ids, std::chrono::steady_clock::now() + kLongestWait, stop)) {
        throw Error(sqlstate::kObjectNotInPrerequisiteState, "timed out waiting for jobs");
      }
      jobs = registry_.list(*filter);
    }
  }

  const bool list = statement.form != ShowJobs::Form::Job;
  const std::vector<sql::Column> columns = sql::columns_of(statement);
  sink.columns(columns);
  sql::Row row(columns.size());
  for (const jobs::Job& job : jobs) {
    for (std::size_t i = 0; i < columns.size(); ++i) row[i] = value(columns[i].name, job, list);
    sink.row(row);
  }
  sink.complete(fmt::format("SHOW {}", jobs.size()));
}

/// Which jobs the statement is about; absent for none whatever there is.
std::optional<jobs::JobFilter> ShowJobsStatement::filter_for(const ShowJobs& statement,
                                                             sql::SessionContext& session,
                                                             const Stop& stop) const {
  jobs::JobFilter filter;
  JobRights::of(session).restrict_to_own(filter);
  std::optional<std::int64_t> id;
  if (statement.id) {
    id = resolver_.evaluate(*statement.id, session);
    if (!id) return std::nullopt;
  }
  switch (statement.form) {
    case ShowJobs::Form::All:
      filter.unfinished_or_since = registry_.clock().now() - kListed;
      return filter;
    case ShowJobs::Form::Automatic:  // every job of holdfast comes from a statement or a schedule
    case ShowJobs::Form::Changefeed:
      return std::nullopt;
    case ShowJobs::Form::Select:
      filter.ids = resolver_.evaluate(statement.select.value(), session, stop);
      return filter;
    case ShowJobs::Form::ForSchedule:
      filter.created_by_schedules = {id.value()};
      return filter;
    case ShowJobs::Form::ForSchedules:
      filter.created_by_schedules = resolver_.evaluate(statement.select.value(), session, stop);
      return filter;
    case ShowJobs::Form::Job:
      filter.ids = {id.value()};
      return filter;
  }
  return std::nullopt;
}

sql::Value ShowJobsStatement::value(std::string_view column, const jobs::Job& job,
                                    bool list) const {
  const auto time = [&](const std::optional<Time>& moment) -> sql::Value {
    if (!moment) return std::nullopt;
    return format_timestamptz(list ? std::chrono::floor<std::chrono::seconds>(*moment) : *moment);
  };
  const auto number = [](const std::optional<std::int64_t>& n) -> sql::Value {
    if (!n) return std::nullopt;
    return fmt::format("{}", *n);
  };
  if (column == "job_id") return fmt::format("{}", job.id);
  if (column == "job_type") return job.type;
  if (column == "description") {
    return list ? shorten_description(job.description) : job.description;
  }
  if (column == "statement") return job.statement;
  if (column == "user_name") return job.user_name;
  if (column == "status") return std::string(name_of(job.status));
  if (column == "running_status") {
    return job.running_status.empty() ? sql::Value() : sql::Value(job.running_status);
  }
  if (column == "created") return time(job.created);
  if (column == "finished") return time(job.finished);
  if (column == "modified") return time(job.modified);
  if (column == "fraction_completed") return fmt::format("{}", job.fraction_completed);
  if (column == "error") return job.error ? job.error->message() : std::string();
  if (column == "coordinator_id") return number(job.coordinator_id);
  if (column == "trace_id") return std::nullopt;  // holdfast does not trace
  if (column == "num_runs") return number(job.num_runs);
  if (column == "execution_errors") return text_array(registry_.execution_errors(job.id));
  HF_ASSERT(!"a column of sql::columns_of() that SHOW JOBS does not know");
  return std::nullopt;
}

}  // namespace holdfast::statements
