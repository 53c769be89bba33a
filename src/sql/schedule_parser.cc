#include "sql/schedule_parser.h"

#include <fmt/format.h>

#include <charconv>

#include "sql/option_parser.h"
#include "sql/target_parser.h"

namespace holdfast::sql {
namespace {

/// Behind FULL BACKUP.
FullBackup parse_full_backup(TokenReader& reader) {
  if (reader.accept({"always"})) return {.always = true, .recurrence = {}};
  return {.always = false, .recurrence = reader.expect_text()};
}

/// CockroachDB's wording for a clause that comes a second time.
void once(const TokenReader& reader, bool given, std::string_view clause) {
  if (given) reader.fail(fmt::format("can specify {} at most once", clause));
}

void parse_set(TokenReader& reader, AlterBackupSchedule& alter) {
  TokenReader clause = reader;
  if (reader.accept({"label"})) {
    once(clause, alter.label.has_value(), "SET LABEL");
    alter.label = reader.expect_text();
  } else if (reader.accept({"into"})) {
    once(clause, !alter.into.empty(), "SET INTO");
    alter.into = reader.expect_uris();
  } else if (reader.accept({"with"})) {
    parse_option(reader, kBackup, alter.options);
  } else if (reader.accept({"recurring"})) {
    once(clause, alter.recurring.has_value(), "SET RECURRING");
    alter.recurring = reader.expect_text();
  } else if (reader.accept({"full", "backup"})) {
    once(clause, alter.full_backup.has_value(), "SET FULL BACKUP");
    alter.full_backup = parse_full_backup(reader);
  } else {
    reader.expect({"schedule", "option"});
    parse_option(reader, kSchedule, alter.schedule_options);
  }
}

void parse_command(TokenReader& reader, AlterBackupSchedule& alter) {
  if (reader.accept({"set"})) {
    parse_set(reader, alter);
    return;
  }
  TokenReader clause = reader;
  reader.expect({"execute"});
  once(clause, alter.execute != AlterBackupSchedule::Execute::No, "EXECUTE IMMEDIATELY");
  alter.execute = reader.accept({"full"}) ? AlterBackupSchedule::Execute::FullNow
                                          : AlterBackupSchedule::Execute::Now;
  reader.expect({"immediately"});
}

}  // namespace

std::int64_t expect_id(TokenReader& reader) {
  const Token& token = reader.peek();
  std::int64_t id = 0;
  const char* end = token.text.data() + token.text.size();
  std::from_chars_result result = std::from_chars(token.text.data(), end, id);
  if (token.kind != Token::Kind::Number || result.ec != std::errc() || result.ptr != end) {
    reader.fail();
  }
  reader.skip(1);
  return id;
}

CreateSchedule parse_create_schedule(TokenReader& reader) {
  CreateSchedule create;
  create.if_not_exists = reader.accept({"if", "not", "exists"});
  if (!reader.at({"for"})) create.label = parse_name_or_string(reader);
  reader.expect({"for", "backup"});
  create.targets = parse_targets(reader, "into");
  reader.expect({"into"});
  create.into = reader.expect_uris();
  if (!reader.at({"with", "schedule"})) create.options = parse_options(reader, kBackup);
  if (!reader.accept({"recurring"})) {
    if (reader.peek().kind == Token::Kind::End || reader.at({"full"}) || reader.at({"with"}) ||
        reader.peek().symbol(";")) {
      reader.fail("RECURRING clause required");
    }
    reader.fail();
  }
  create.recurring = reader.expect_text();
  if (reader.accept({"full", "backup"})) create.full_backup = parse_full_backup(reader);
  if (reader.accept({"with"})) {
    reader.expect({"schedule", "options"});
    create.schedule_options = parse_option_list(reader, kSchedule);
  }
  return create;
}

AlterBackupSchedule parse_alter_backup_schedule(TokenReader& reader) {
  AlterBackupSchedule alter;
  alter.id = expect_id(reader);
  do {
    parse_command(reader, alter);
  } while (reader.accept_symbol(","));
  return alter;
}

ShowSchedules parse_show_schedules(TokenReader& reader) {
  ShowSchedules show;
  if (reader.accept({"schedule"})) {
    show.id = reader.expect_expression(never);
    return show;
  }
  if (reader.accept({"running"}))
    show.state = ShowSchedules::State::Running;
  else if (reader.accept({"paused"}))
    show.state = ShowSchedules::State::Paused;
  reader.expect({"schedules"});
  if (!reader.accept({"for"})) return show;
  if (reader.accept({"backup"})) {
    show.type = ShowSchedules::For::Backup;
  } else if (reader.accept({"changefeed"})) {
    show.type = ShowSchedules::For::Changefeed;
  } else {
    reader.expect({"sql", "statistics"});
    show.type = ShowSchedules::For::SqlStatistics;
  }
  return show;
}

ScheduleControl parse_schedule_control(TokenReader& reader, ScheduleControl::Action action) {
  ScheduleControl control{.action = action, .id = {}, .select = {}};
  if (reader.accept({"schedules"})) {
    control.select = reader.expect_query(never);
  } else {
    reader.expect({"schedule"});
    control.id = reader.expect_expression(never);
  }
  return control;
}

}  // namespace holdfast::sql
