#include "statements/milestone_statements.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "base/error.h"
#include "collection/encryption.h"
#include "sql/columns.h"
#include "sql/lexer.h"
#include "statements/as_of.h"
#include "statements/encryption.h"
#include "statements/job_rights.h"
#include "statements/option_checks.h"
#include "statements/privileges.h"

namespace holdfast::statements {

namespace {

using collection::Milestone;

sql::Row row_of(const Milestone& milestone, std::string location) {
  return {milestone.name,      format_timestamptz(milestone.time),    milestone.database,
          std::move(location), fmt::format("{}", milestone.timeline), to_string(milestone.lsn),
          milestone.user};
}

/// "milestone_20261120_223000_123456": not to be taken for a time by AS OF SYSTEM TIME.
std::string name_from(Time now) {
  const auto day = std::chrono::floor<std::chrono::days>(now);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss<std::chrono::microseconds> time(now - day);
  return fmt::format("milestone_{:04}{:02}{:02}_{:02}{:02}{:02}_{:06}",
                     static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                     static_cast<unsigned>(date.day()), time.hours().count(),
                     time.minutes().count(), time.seconds().count(), time.subseconds().count());
}

void check_name(const std::string& name) {
  if (name.empty()) {
    throw Error(sqlstate::kInvalidParameterValue, "the name of a milestone must not be empty");
  }
  if (name.size() > backup::kLongestMilestoneName) {
    throw Error(sqlstate::kInvalidParameterValue, "the name of a milestone is too long")
        .detail(fmt::format("It is the name of a restore point, which has at most {} bytes.",
                            backup::kLongestMilestoneName));
  }
}

/// The counterpart of SingleStore's CREATE TABLE in that database.
void require_create(sql::SessionContext& session, const std::string& database) {
  if (!session.server_available()) {
    throw Error(sqlstate::kCannotConnectNow, "cannot create a milestone while PostgreSQL is down")
        .hint("Start PostgreSQL, or bring it back with RESTORE.");
  }
  // Named by its oid: a name may be that of another object to a cast.
  const auto result = session.query(fmt::format(
      "SELECT pg_catalog.has_database_privilege(d.oid, 'CREATE') FROM pg_catalog.pg_database AS d"
      " WHERE d.datname OPERATOR(pg_catalog.=) {}::pg_catalog.name",
      sql::quote_literal(database)));
  if (result.rows.empty()) {
    throw Error(sqlstate::kInvalidCatalogName,
                fmt::format("database \"{}\" does not exist", database));
  }
  if (result.rows[0].at(0) == "t" || is_administrator(session)) return;
  throw Error(sqlstate::kInsufficientPrivilege,
              fmt::format("permission denied for database {}", database))
      .detail("CREATE MILESTONE needs the CREATE privilege of the database.");
}

class CreateMilestone final : public Handler<sql::CreateMilestone> {
 public:
  CreateMilestone(backup::Milestones& milestones, const Clock& clock)
      : milestones_(milestones), clock_(clock) {}

  void run(const sql::CreateMilestone& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override {
    if (session.in_transaction()) {
      throw Error(sqlstate::kActiveSqlTransaction,
                  "CREATE MILESTONE cannot run inside a transaction block")
          .detail("What the transaction has done so far would not be in it.");
    }
    const std::string database = statement.database.value_or(session.database());
    const std::string name = statement.name ? statement.name->value : name_from(clock_.now());
    check_name(name);
    require_create(session, database);
    const auto created = milestones_.create({.name = name,
                                             .database = database,
                                             .user = current_user(session),
                                             .administrator = is_administrator(session)},
                                            stop);
    for (const std::string& collection : created.without_backup) {
      sink.notice({.severity = "WARNING",
                   .state = sqlstate::kWarning,
                   .message = fmt::format("{} cannot restore to this milestone", collection),
                   .detail = "No backup there ends before it, with all WAL from there on.",
                   .hint = "Take a full backup with BACKUP INTO."});
    }
    for (const std::string& collection : created.not_tried) {
      sink.notice({.severity = "WARNING",
                   .state = sqlstate::kWarning,
                   .message = fmt::format("whether {} can restore to this milestone is not known",
                                          collection),
                   .detail = "Its backups are encrypted, and this daemon has taken none of them.",
                   .hint = "Take a full backup with BACKUP INTO, or try with RESTORE."});
    }
    const Milestone& milestone = created.milestone;
    sink.columns(sql::columns_of(statement));
    sink.row(sql::Row{milestone.name, format_timestamptz(milestone.time), milestone.database});
    sink.complete("CREATE MILESTONE");
  }

 private:
  backup::Milestones& milestones_;
  const Clock& clock_;
};

/// The store, with the key of that server's WAL.
std::unique_ptr<storage::ObjectStore> open_wal_of(std::unique_ptr<storage::ObjectStore> store,
                                                  std::uint64_t server, collection::KeyGuard* guard,
                                                  const Stop& stop) {
  if (guard == nullptr) {
    collection::require_no_key(*store, server, stop);
    return store;
  }
  auto key = collection::open_wal(*store, server, *guard, collection::WalKey::Find, stop);
  return collection::with_keys(std::move(store), {.chain = std::nullopt, .wal = std::move(key)});
}

class ShowMilestones final : public Handler<sql::ShowMilestones> {
 public:
  explicit ShowMilestones(Stores& stores) : stores_(stores) {}

  void run(const sql::ShowMilestones& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override {
    const std::string uri = single_uri(statement.in, "SHOW MILESTONES");
    const auto guard = key_guard(statement.options, stores_, session);
    std::size_t rows = 0;
    sink.columns(sql::columns_of(statement));
    const auto servers = collection::list_wal_servers(*open_for_user(stores_, uri, session), stop);
    for (const std::uint64_t server : servers) {
      const auto store =
          open_wal_of(open_for_user(stores_, uri, session), server, guard.get(), stop);
      for (const Milestone& one : collection::list_milestones(*store, server, stop)) {
        // Who may use an external connection need not know what it leads to.
        sink.row(row_of(one, backup::collection_name(uri, store->description(), true)));
        ++rows;
      }
    }
    sink.complete(fmt::format("SHOW {}", rows));
  }

 private:
  Stores& stores_;
};

/// The databases that the statement restores, as far as it names them.
std::vector<std::string> databases_of(const MomentSearch& search) {
  using Kind = sql::Targets::Kind;
  std::vector<std::string> databases;
  if (search.targets.kind == Kind::Databases) databases = search.targets.databases;
  if (search.targets.kind == Kind::Tables) {
    for (const sql::TablePattern& table : search.targets.tables) {
      databases.push_back(table.parts.size() == 3 ? table.parts.front() : search.database);
    }
  }
  return databases;
}

bool at_one_place(const std::vector<Milestone>& milestones) {
  return std::ranges::all_of(milestones, [&](const Milestone& one) {
    return one.timeline == milestones.front().timeline && one.lsn == milestones.front().lsn;
  });
}

/// Absent when the collection has none of this name.
std::optional<Milestone> choose(const std::string& name, const MomentSearch& search,
                                const Stop& stop) {
  auto named = collection::list_milestones(search.store, search.system_identifier, stop);
  std::erase_if(named, [&](const Milestone& one) { return one.name != name; });
  if (named.empty()) return std::nullopt;
  const auto databases = databases_of(search);
  auto own = named;
  std::erase_if(own, [&](const Milestone& one) {
    return std::ranges::find(databases, one.database) == databases.end();
  });
  // It is a moment of the whole cluster, so that another database's serves too.
  const auto& candidates = own.empty() ? named : own;
  if (at_one_place(candidates)) return candidates.front();
  std::vector<std::string> places;
  for (const Milestone& one : candidates) {
    places.push_back(fmt::format("\"{}\" at {} (LSN {}, timeline {})", one.database,
                                 format_timestamptz(one.time), to_string(one.lsn), one.timeline));
  }
  throw Error(sqlstate::kInvalidParameterValue,
              fmt::format("milestone \"{}\" is ambiguous: several databases have one", name))
      .detail(fmt::format("They are of {}.", fmt::join(places, ", ")))
      .hint("Restore AS OF SYSTEM TIME LSN 'x/y', with the LSN of the one that you mean.");
}

bool is_time(const sql::Expression& expression, Time now) {
  try {
    as_of_time(expression, now);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

std::size_t list_milestones(const backup::Milestones& milestones, sql::SessionContext& session,
                            sql::RowSink& sink, const Stop& stop) {
  const JobRights rights = JobRights::of(session);
  std::size_t rows = 0;
  for (const auto& listed : milestones.list(rights.all, stop)) {
    if (!rights.all && listed.milestone.user != rights.user) continue;
    sink.row(row_of(listed.milestone, listed.collection_uri));
    ++rows;
  }
  return rows;
}

collection::Moment find_moment_or_milestone(const sql::Expression& expression,
                                            const MomentSearch& search, const Stop& stop) {
  using Kind = sql::Expression::Kind;
  const bool named = expression.kind == Kind::Milestone;
  if (!named && (expression.kind != Kind::String || is_time(expression, search.now))) {
    return find_moment(expression, search.finder, search.now);
  }
  std::optional<Milestone> milestone;
  try {
    milestone = choose(expression.value, search, stop);
  } catch (const Error& error) {
    // A web server cannot list.
    if (named || error.state() != sqlstate::kFeatureNotSupported) throw;
  }
  if (milestone) {
    try {
      return search.finder.behind(milestone->timeline, milestone->lsn);
    } catch (Error& error) {
      error.at(fmt::format("cannot restore to milestone \"{}\"", milestone->name));
      throw;
    }
  }
  if (!named) return find_moment(expression, search.finder, search.now);
  throw Error(sqlstate::kUndefinedObject, fmt::format("milestone \"{}\" does not exist in {}",
                                                      expression.value, search.store.description()))
      .hint("SHOW MILESTONES IN lists those that there are.");
}

void add_milestone_statements(Dispatcher& dispatcher, Stores& stores,
                              backup::Milestones& milestones, const Clock& clock) {
  dispatcher.add<sql::CreateMilestone>(std::make_unique<CreateMilestone>(milestones, clock));
  dispatcher.add<sql::ShowMilestones>(std::make_unique<ShowMilestones>(stores));
}

}  // namespace holdfast::statements
