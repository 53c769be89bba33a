#include "sql/parser.h"

#include <charconv>
#include <string>

#include "base/error.h"
#include "sql/option_parser.h"
#include "sql/schedule_parser.h"
#include "sql/singlestore_parser.h"
#include "sql/target_parser.h"
#include "sql/token_reader.h"

namespace holdfast::sql {
namespace {

bool at_with(const TokenReader& reader) {
  // WITH TIME ZONE belongs to a type's name.
  return reader.at({"with"}) && !reader.at({"with", "time"});
}

std::optional<Expression> parse_as_of(TokenReader& reader) {
  if (!reader.accept({"as"})) return std::nullopt;
  reader.expect({"of", "system", "time"});
  return reader.expect_moment(at_with);
}

/// AS OF SYSTEM TIME e, or AT MILESTONE 's', which is the same as AS OF SYSTEM TIME MILESTONE 's'.
std::optional<Expression> parse_moment(TokenReader& reader) {
  if (reader.accept({"at"})) return reader.expect_milestone();
  return parse_as_of(reader);
}

/// The one database that SingleStore's statements name, also without the word DATABASE.
std::optional<std::string> single_database(const Targets& targets) {
  if (targets.kind == Targets::Kind::Databases && targets.databases.size() == 1) {
    return targets.databases.front();
  }
  if (targets.kind == Targets::Kind::Tables && targets.tables.size() == 1 &&
      !targets.tables.front().wildcard && targets.tables.front().parts.size() == 1) {
    return targets.tables.front().parts.front();
  }
  return std::nullopt;
}

Statement parse_backup(TokenReader& reader) {
  Backup backup;
  const bool tables = reader.at({"table"});
  backup.targets = parse_targets(reader, "into");
  if (!tables && at_singlestore_backup(reader)) {
    if (auto database = single_database(backup.targets)) {
      return parse_singlestore_backup(reader, *std::move(database));
    }
  }
  reader.expect({"into"});
  if (reader.at({"latest", "in"})) {
    backup.onto = parse_subdirectory(reader);
    reader.expect({"in"});
    backup.into = reader.expect_uris();
  } else {
    TokenReader start = reader;
    backup.into = reader.expect_uris();
    if (reader.at({"in"})) {
      reader = start;
      backup.onto = parse_subdirectory(reader);
      reader.expect({"in"});
      backup.into = reader.expect_uris();
    }
  }
  backup.as_of = parse_as_of(reader);
  backup.options = parse_options(reader, kBackup);
  return backup;
}

Statement parse_restore(TokenReader& reader) {
  Restore restore;
  if (reader.accept({"system", "users"})) {
    restore.targets.kind = Targets::Kind::SystemUsers;
  } else {
    const bool tables = reader.at({"table"});
    restore.targets = parse_targets(reader, "from");
    auto database = single_database(restore.targets);
    if (!tables && database && at_singlestore_restore(reader)) {
      return parse_singlestore_restore(reader, *std::move(database));
    }
  }
  reader.expect({"from"});
  restore.from = parse_subdirectory(reader);
  reader.expect({"in"});
  restore.in = reader.expect_uris();
  restore.as_of = parse_moment(reader);
  restore.options = parse_options(reader, kRestore);
  return restore;
}

Statement parse_verify(TokenReader& reader) {
  VerifyBackup verify;
  reader.expect({"backup"});
  reader.accept({"from"});
  verify.from = parse_subdirectory(reader);
  reader.expect({"in"});
  verify.in = reader.expect_uris();
  verify.as_of = parse_as_of(reader);
  verify.options = parse_options(reader, kVerifyBackup);
  return verify;
}

Statement parse_show_backups(TokenReader& reader) {
  auto at_clause = [](const TokenReader& at) {
    return at_with(at) || at.at({"newer", "than"}) || at.at({"older", "than"});
  };
  ShowBackups show;
  reader.expect({"in"});
  show.in = reader.expect_uris();
  for (;;) {
    std::optional<Expression>* clause = nullptr;
    if (reader.at({"newer", "than"})) clause = &show.newer_than;
    if (reader.at({"older", "than"})) clause = &show.older_than;
    if (clause == nullptr) break;
    if (clause->has_value()) reader.fail();
    reader.skip(2);
    *clause = reader.expect_expression(at_clause);
  }
  show.options = parse_options(reader, kShowBackups);
  return show;
}

Statement parse_show_milestones(TokenReader& reader) {
  ShowMilestones show;
  show.in = reader.expect_uris();
  show.options = parse_options(reader, kShowMilestones);
  return show;
}

CheckExternalConnection parse_check(TokenReader& reader) {
  CheckExternalConnection check;
  check.uri = reader.expect_text();
  check.options = parse_options(reader, kCheckConnection);
  return check;
}

Statement parse_show_backup(TokenReader& reader) {
  using What = ShowBackup::What;
  if (reader.accept({"connection"})) return parse_check(reader);
  ShowBackup show;
  if (reader.accept({"schemas"}))
    show.what = What::Schemas;
  else if (reader.accept({"files"}))
    show.what = What::Files;
  else if (reader.accept({"ranges"}))
    show.what = What::Ranges;
  else if (reader.accept({"validate"}))
    show.what = What::Validate;
  else if (reader.accept({"windows"}))
    show.what = What::Windows;
  if (show.what != What::Objects)
    reader.expect({"from"});
  else
    reader.accept({"from"});
  show.from = parse_subdirectory(reader);
  reader.expect({"in"});
  show.in = reader.expect_uris();
  show.options = parse_options(reader, kShowBackup);
  return show;
}

bool at_job_options(const TokenReader& reader) {
  return reader.at({"with", "execution", "details"}) ||
         reader.at({"with", "resolved", "timestamp"}) ||
         (reader.at({"with", "options"}) && reader.peek(2).symbol("("));
}

Statement parse_show_jobs(TokenReader& reader) {
  using Form = ShowJobs::Form;
  ShowJobs show;
  if (reader.accept({"for", "schedules"})) {
    show.form = Form::ForSchedules;
    show.select = reader.expect_query(never);
    return show;
  }
  if (reader.accept({"for", "schedule"})) {
    show.form = Form::ForSchedule;
    show.id = reader.expect_expression(never);
    return show;
  }
  show.when_complete = reader.accept({"when", "complete"});
  if (!show.when_complete && !reader.at_query()) return show;
  show.form = Form::Select;
  show.select = reader.expect_query(at_job_options);
  if (!show.when_complete) show.options = parse_options(reader, kShowJob);
  return show;
}

Statement parse_show_job(TokenReader& reader) {
  ShowJobs show;
  show.form = ShowJobs::Form::Job;
  show.when_complete = reader.accept({"when", "complete"});
  show.id = reader.expect_expression(at_with);
  if (!show.when_complete) show.options = parse_options(reader, kShowJob);
  return show;
}

Statement parse_show_changefeed_jobs(TokenReader& reader) {
  ShowJobs show;
  show.form = ShowJobs::Form::Changefeed;
  if (reader.at_query()) show.select = reader.expect_query(never);
  return show;
}

Statement parse_show_create(TokenReader& reader) {
  if (reader.accept({"all", "schedules"})) return ShowCreateSchedule{};
  if (reader.accept({"all", "external", "connections"})) return ShowCreateExternalConnections{};
  if (reader.accept({"schedule"})) {
    return ShowCreateSchedule{.id = reader.expect_expression(never)};
  }
  reader.expect({"external", "connection"});
  return ShowCreateExternalConnections{.name = parse_name_or_string(reader)};
}

Statement parse_show(TokenReader& reader) {
  if (reader.accept({"backups"})) return parse_show_backups(reader);
  if (reader.accept({"backup"})) return parse_show_backup(reader);
  if (reader.accept({"jobs"})) return parse_show_jobs(reader);
  if (reader.accept({"job"})) return parse_show_job(reader);
  if (reader.accept({"wal", "archives"})) return ShowWalArchives{};
  if (reader.accept({"milestones", "in"})) return parse_show_milestones(reader);
  if (reader.accept({"automatic", "jobs"})) {
    ShowJobs show;
    show.form = ShowJobs::Form::Automatic;
    return show;
  }
  if (reader.accept({"changefeed", "jobs"})) return parse_show_changefeed_jobs(reader);
  if (reader.accept({"create"})) return parse_show_create(reader);
  if (reader.accept({"external", "connections"})) return ShowExternalConnections{};
  if (reader.accept({"external", "connection"})) {
    return ShowExternalConnections{.name = parse_name_or_string(reader)};
  }
  return parse_show_schedules(reader);
}

JobControl::Type expect_job_type(TokenReader& reader) {
  using Type = JobControl::Type;
  if (reader.accept({"backup"})) return Type::Backup;
  if (reader.accept({"restore"})) return Type::Restore;
  if (reader.accept({"changefeed"})) return Type::Changefeed;
  if (reader.accept({"import"})) return Type::Import;
  reader.fail();
}

bool at_reason(const TokenReader& reader) {
  return reader.at({"with", "reason"}) && reader.peek(2).symbol("=");
}

Statement parse_job_control(TokenReader& reader, JobControl::Action action) {
  using Target = JobControl::Target;
  JobControl control;
  control.action = action;
  if (reader.accept({"all"})) {
    control.target = Target::AllOfType;
    control.type = expect_job_type(reader);
    reader.expect({"jobs"});
    return control;
  }
  if (reader.accept({"jobs", "for", "schedules"})) {
    control.target = Target::ForSchedules;
    control.select = reader.expect_query(never);
    return control;
  }
  if (reader.accept({"jobs", "for", "schedule"})) {
    control.target = Target::ForSchedule;
    control.id = reader.expect_expression(never);
    return control;
  }
  auto stop = action == JobControl::Action::Pause ? at_reason : never;
  if (reader.accept({"jobs"})) {
    control.target = Target::Jobs;
    control.select = reader.expect_query(stop);
  } else {
    reader.expect({"job"});
    control.id = reader.expect_expression(stop);
  }
  if (action == JobControl::Action::Pause && reader.accept({"with", "reason"})) {
    reader.expect_symbol("=");
    control.reason = reader.expect_text();
  }
  return control;
}

Statement parse_control(TokenReader& reader, JobControl::Action job,
                        ScheduleControl::Action schedule) {
  if (reader.at({"schedule"}) || reader.at({"schedules"})) {
    return parse_schedule_control(reader, schedule);
  }
  return parse_job_control(reader, job);
}

Statement parse_alter_job(TokenReader& reader) {
  AlterJobOwner alter;
  alter.job = reader.expect_expression([](const TokenReader& at) {
    return at.at({"owner", "to"});
  });
  reader.expect({"owner", "to"});
  bool special = reader.at({"current_user"}) || reader.at({"session_user"});
  alter.owner = special ? reader.expect_label() : reader.expect_name();
  return alter;
}

BackupKeys parse_backup_keys(TokenReader& reader, std::string_view passphrase,
                             std::string_view kms) {
  BackupKeys keys;
  if (reader.accept({passphrase})) {
    reader.expect_symbol("=");
    keys.passphrase = reader.expect_text();
    return keys;
  }
  reader.expect({kms});
  reader.expect_symbol("=");
  keys.kms = reader.expect_uris();
  return keys;
}

Statement parse_alter_backup_keys(TokenReader& reader) {
  AlterBackupKeys alter;
  if (reader.at({"latest"}) || reader.peek(1).word("in")) {
    alter.subdirectory = parse_subdirectory(reader);
    reader.expect({"in"});
  }
  alter.in = reader.expect_text();
  reader.expect({"add"});
  alter.added = parse_backup_keys(reader, "new_passphrase", "new_kms");
  reader.expect({"with"});
  alter.old = parse_backup_keys(reader, "old_passphrase", "old_kms");
  return alter;
}

Statement parse_alter(TokenReader& reader) {
  if (reader.accept({"job"})) return parse_alter_job(reader);
  if (reader.accept({"backup", "schedule"})) return parse_alter_backup_schedule(reader);
  if (reader.accept({"backup"})) return parse_alter_backup_keys(reader);
  reader.expect({"external", "connection"});
  AlterExternalConnection alter;
  alter.if_exists = reader.accept({"if", "exists"});
  alter.name = parse_name_or_string(reader);
  reader.expect({"as"});
  alter.uri = reader.expect_text();
  return alter;
}

Statement parse_create_milestone(TokenReader& reader) {
  CreateMilestone create;
  if (reader.at_text()) create.name = reader.expect_text();
  if (reader.accept({"for"})) create.database = reader.expect_name();
  return create;
}

Statement parse_create(TokenReader& reader) {
  if (reader.accept({"schedule"})) return parse_create_schedule(reader);
  if (reader.accept({"milestone"})) return parse_create_milestone(reader);
  if (reader.accept({"wal", "archive", "in"})) {
    CreateWalArchive archive;
    archive.uri = reader.expect_text();
    archive.options = parse_options(reader, kWalArchive);
    return archive;
  }
  reader.expect({"external", "connection"});
  CreateExternalConnection create;
  create.if_not_exists = reader.accept({"if", "not", "exists"});
  create.name = parse_name_or_string(reader);
  reader.expect({"as"});
  create.uri = reader.expect_text();
  return create;
}

Statement parse_drop(TokenReader& reader) {
  if (reader.accept({"wal", "archive", "in"})) return DropWalArchive{.uri = reader.expect_text()};
  if (reader.accept({"external", "connection"})) {
    return DropExternalConnection{.name = parse_name_or_string(reader)};
  }
  return parse_schedule_control(reader, ScheduleControl::Action::Drop);
}

std::string parse_privilege(TokenReader& reader) {
  for (const std::string_view privilege : {"usage", "update", "drop"}) {
    if (reader.accept({privilege})) return std::string(privilege);
  }
  reader.fail();
}

Statement parse_grant(TokenReader& reader, GrantOnConnection::Action action) {
  GrantOnConnection grant;
  grant.action = action;
  if (reader.accept({"all"})) {
    reader.accept({"privileges"});
    grant.privileges = {"usage", "update", "drop"};
  } else {
    do {
      grant.privileges.push_back(parse_privilege(reader));
    } while (reader.accept_symbol(","));
  }
  reader.expect({"on", "external", "connection"});
  do {
    grant.connections.push_back(parse_name_or_string(reader).value);
  } while (reader.accept_symbol(","));
  reader.expect({action == GrantOnConnection::Action::Grant ? "to" : "from"});
  do {
    grant.roles.push_back(reader.expect_name());
  } while (reader.accept_symbol(","));
  return grant;
}

Statement parse_clear(TokenReader& reader) {
  using What = ClearBackupHistory::What;
  reader.expect({"backup_history"});
  if (reader.accept({"success"})) return ClearBackupHistory{.what = What::Success};
  if (reader.accept({"failure"})) return ClearBackupHistory{.what = What::Failure};
  if (!reader.accept({"backup_id"})) return ClearBackupHistory{};
  reader.expect_symbol("=");
  return ClearBackupHistory{.what = What::One, .backup_id = expect_id(reader)};
}

Statement parse_delete(TokenReader& reader) {
  DeleteBackups deletion;
  reader.expect({"backups"});
  do {
    if (!deletion.older_than && reader.accept({"older", "than"})) {
      deletion.older_than = reader.expect_expression(
          [](const TokenReader& at) { return at.at({"in"}) || at.at({"keep"}); });
    } else {
      if (deletion.keep_fulls) reader.fail();
      reader.expect({"keep"});
      deletion.keep_fulls = expect_id(reader);
      reader.expect({"fulls"});
    }
  } while (!reader.accept({"in"}));
  deletion.in = reader.expect_uris();
  deletion.options = parse_options(reader, kDeleteBackups);
  return deletion;
}

Statement parse_view(TokenReader& reader) {
  using View = InformationSchemaView::View;
  reader.expect_symbol(".");
  if (reader.accept({"mv_backup_history"})) return InformationSchemaView{View::BackupHistory};
  if (reader.accept({"mv_milestones"})) return InformationSchemaView{View::Milestones};
  reader.expect({"mv_backup_status"});
  return InformationSchemaView{View::BackupStatus};
}

Statement parse_statement(TokenReader& reader) {
  using Job = JobControl::Action;
  using Schedule = ScheduleControl::Action;
  if (reader.accept({"backup"})) return parse_backup(reader);
  if (reader.accept({"restore"})) return parse_restore(reader);
  if (reader.accept({"show"})) return parse_show(reader);
  if (reader.accept({"pause"})) return parse_control(reader, Job::Pause, Schedule::Pause);
  if (reader.accept({"resume"})) return parse_control(reader, Job::Resume, Schedule::Resume);
  if (reader.accept({"cancel"})) return parse_job_control(reader, Job::Cancel);
  if (reader.accept({"alter"})) return parse_alter(reader);
  if (reader.accept({"create"})) return parse_create(reader);
  if (reader.accept({"drop"})) return parse_drop(reader);
  if (reader.accept({"execute"})) return parse_schedule_control(reader, Schedule::Execute);
  if (reader.accept({"check", "external", "connection"})) return parse_check(reader);
  if (reader.accept({"grant"})) return parse_grant(reader, GrantOnConnection::Action::Grant);
  if (reader.accept({"revoke"})) return parse_grant(reader, GrantOnConnection::Action::Revoke);
  if (reader.accept({"clear"})) return parse_clear(reader);
  if (reader.accept({"delete"})) return parse_delete(reader);
  if (reader.accept({"verify"})) return parse_verify(reader);
  if (reader.accept({"information_schema"})) return parse_view(reader);
  reader.fail();
}

}  // namespace

Statement parse(std::string_view text) {
  TokenReader reader(text);
  Statement statement = parse_statement(reader);
  reader.expect_end();
  return statement;
}

}  // namespace holdfast::sql
