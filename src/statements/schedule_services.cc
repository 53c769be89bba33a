#include "statements/schedule_services.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "schedule/recurrence.h"
#include "sql/columns.h"
#include "sql/lexer.h"
#include "sql/parser.h"
#include "sql/printer.h"

namespace holdfast::statements {

namespace {

constexpr std::int64_t kMostFullsKept = 1'000'000;

/// The client's session, for a statement that is only tried out.
class DryRunSession final : public sql::SessionContext {
 public:
  explicit DryRunSession(sql::SessionContext& session) : session_(session) {}

  const std::string& user() const override { return session_.user(); }
  const std::string& database() const override { return session_.database(); }
  bool local_administrator() const override { return session_.local_administrator(); }
  bool server_available() const override { return session_.server_available(); }
  bool in_transaction() const override { return session_.in_transaction(); }
  bool dry_run() const override { return true; }
  sql::QueryResult query(std::string_view text) override { return session_.query(text); }

 private:
  sql::SessionContext& session_;
};

class NoSink final : public sql::RowSink {
 public:
  void columns(std::span<const sql::Column>) override {}
  void row(std::span<const sql::Value>) override {}
  void notice(const sql::Notice&) override {}
  void complete(std::string_view) override {}
};

std::string status_of(const schedule::Schedule& schedule) {
  if (!schedule.paused) return "ACTIVE";
  return schedule.state.empty() ? "PAUSED" : "PAUSED: " + schedule.state;
}

Time read_first_run(const std::string& text, Time now) {
  if (text == "now" || text == "NOW") return now;
  const std::optional<Time> time = parse_timestamp(text);
  if (!time) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("invalid value for option first_run: \"{}\"", text))
        .hint("Give 'now' or a time, as in '2026-12-01 02:00:00+00'; without a zone it is UTC.");
  }
  return *time;
}

/// Whether it is an interval at all is for the dry run to say.
std::string read_retention(const std::string& text) {
  if (!parse_timestamp(text)) return text;
  throw Error(sqlstate::kInvalidParameterValue,
              fmt::format("invalid value for option retention: \"{}\"", text))
      .hint("Give an age, as in '30 days'.");
}

std::int64_t read_keep_fulls(std::int64_t number) {
  if (number <= kMostFullsKept) return number;
  throw Error(sqlstate::kInvalidParameterValue,
              fmt::format("invalid value for option keep_fulls: {}", number))
      .hint("Give the number of fulls to keep; 0 for no bound.");
}

}  // namespace

void throw_unknown_schedule(schedule::ScheduleId id) {
  throw Error(sqlstate::kUndefinedObject, fmt::format("schedule with ID {} does not exist", id))
      .hint("List the schedules with SHOW SCHEDULES.");
}

void link(schedule::Schedule& incremental, schedule::Schedule& full) {
  incremental.partner = full.id;
  incremental.paused = true;
  incremental.next_run.reset();
  incremental.state = kWaitsForFirstFull;
  full.partner = incremental.id;
  full.unpause_partner = true;
}

std::optional<sql::DeleteBackups> deletion_of(const schedule::Schedule& schedule) {
  if (!schedule.deletes_backups()) return std::nullopt;
  sql::DeleteBackups deletion;
  if (!schedule.retention.empty()) {
    deletion.older_than = sql::Expression{.kind = sql::Expression::Kind::String,
                                          .source = sql::quote_literal(schedule.retention),
                                          .value = schedule.retention};
  }
  if (schedule.keep_fulls > 0) deletion.keep_fulls = schedule.keep_fulls;
  const sql::Backup backup = backup_of(schedule);
  deletion.in = backup.into;
  // What is encrypted must be read to know its age; layers in another place must be seen.
  for (const sql::Option* option :
       {backup.options.find("encryption_passphrase"), backup.options.find("kms"),
        backup.options.find("incremental_location")}) {
    if (option != nullptr) deletion.options.list.push_back(*option);
  }
  deletion.options.list.push_back({.name = sql::find_option("detached", sql::kDeleteBackups)->name,
                                   .enabled = true,
                                   .values = {}});
  return deletion;
}

sql::Backup backup_of(const schedule::Schedule& schedule) {
  return std::get<sql::Backup>(sql::parse(schedule.statement));
}

std::string shown_statement(const schedule::Schedule& schedule) {
  return sql::print(backup_of(schedule), sql::Redact::Secrets);
}

void answer_schedules(const std::vector<schedule::Schedule>& schedules, const sql::Statement& for_,
                      std::string_view tag, sql::RowSink& sink) {
  sink.columns(sql::columns_of(for_));
  for (const bool incremental : {true, false}) {
    for (const schedule::Schedule& schedule : schedules) {
      if (schedule.incremental != incremental) continue;
      sql::Value first_run;
      if (schedule.next_run) first_run = format_timestamptz(*schedule.next_run);
      sink.row(sql::Row{fmt::format("{}", schedule.id), schedule.label, status_of(schedule),
                        first_run, schedule.recurrence, shown_statement(schedule)});
    }
  }
  sink.complete(tag);
}

void dry_run(const sql::Backup& backup, sql::StatementRunner& statements,
             sql::SessionContext& session, const Stop& stop) {
  DryRunSession dry(session);
  NoSink sink;
  try {
    statements.run(sql::print(backup, sql::Redact::Nothing), {}, dry, sink, stop);
  } catch (Error& error) {
    throw error.at("failed to dry run backup");
  }
}

void dry_run_deletion(const schedule::Schedule& schedule, sql::StatementRunner& statements,
                      sql::SessionContext& session, const Stop& stop) {
  const auto deletion = deletion_of(schedule);
  if (!deletion) return;
  DryRunSession dry(session);
  NoSink sink;
  statements.run(sql::print(*deletion, sql::Redact::Nothing), {}, dry, sink, stop);
}

ScheduleOptions read_schedule_options(const sql::Options& options, Time now) {
  ScheduleOptions read;
  if (const auto text = options.text("first_run")) read.first_run = read_first_run(*text, now);
  if (const auto text = options.text("on_execution_failure")) {
    read.on_execution_failure = schedule::on_execution_failure_named(*text);
    if (!read.on_execution_failure) {
      // "error" is the reference's word.
      throw Error(sqlstate::kInvalidParameterValue,
                  fmt::format("\"{}\" is not a valid on_execution_error; valid values are "
                              "[retry|reschedule|pause]",
                              *text));
    }
  }
  if (const auto text = options.text("on_previous_running")) {
    read.on_previous_running = schedule::on_previous_running_named(*text);
    if (!read.on_previous_running) {
      throw Error(sqlstate::kInvalidParameterValue,
                  fmt::format("\"{}\" is not a valid on_previous_running; valid values are "
                              "[start|skip|wait]",
                              *text));
    }
  }
  if (options.find("updates_cluster_last_backup_time_metric") != nullptr) {
    read.updates_last_backup_metric = options.flag("updates_cluster_last_backup_time_metric");
  }
  if (const auto zone = options.text("time_zone")) {
    read.time_zone = *zone == "UTC" ? std::string() : *zone;
    if (!read.time_zone->empty()) schedule::TimeZone::find(*read.time_zone);
  }
  if (const auto age = options.text("retention")) read.retention = read_retention(*age);
  if (const auto number = options.integer("keep_fulls")) {
    read.keep_fulls = read_keep_fulls(*number);
  }
  read.ignore_existing_backups = options.flag("ignore_existing_backups");
  return read;
}

void require_more_often(const schedule::Schedule& incremental, const schedule::Schedule& full,
                        Time now) {
  const auto period = [&](const schedule::Schedule& schedule) {
    return schedule::Recurrence::parse(schedule.recurrence, schedule.time_zone).period(now);
  };
  if (period(incremental) < period(full)) return;
  throw Error(sqlstate::kInvalidParameterValue,
              "incremental backups must occur more often than full backups");
}

}  // namespace holdfast::statements
