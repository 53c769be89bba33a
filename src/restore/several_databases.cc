#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "restore/object_restore.h"
#include "restore/table_restore.h"

namespace holdfast::restore {
namespace {

using postgres::Connection;

/// Tables of several databases: one restore for each, built one after the other. PostgreSQL has no
/// transaction over several databases. So the last transactions of all are carried out, which is
/// all that can fail, before the first one is committed; the commits follow each other. Once one
/// is done there is only forward: an interruption in between is made up for by the rest of them.
class RestoreOfSeveralDatabases final : public ObjectRestore {
 public:
  RestoreOfSeveralDatabases(const ObjectRestoreRun& run,
                            const collection::proto::Manifest& manifest)
      : run_(run) {
    for (const auto& pattern : run.spec.tables()) {
      *part_of(pattern.database()).spec.add_tables() = pattern;
    }
    for (int i = 0; i < static_cast<int>(parts_.size()); ++i) {
      Part& part = *parts_[static_cast<std::size_t>(i)];
      if (i < run.checkpoint.parts_size()) part.checkpoint = run.checkpoint.parts(i);
      part.tables = make_restore_of_database_tables(part.run, manifest);
    }
  }

  void check_live() override {
    std::set<std::string> names;
    for (const auto& part : parts_) {
      for (const auto& pattern : part->spec.tables()) {
        if (pattern.name().empty()) continue;
        const std::string& schema =
            part->spec.into_schema().empty() ? pattern.schema() : part->spec.into_schema();
        const std::string place = postgres::quote_identifier(part->spec.into_db()) +
                                  postgres::quote_identifier(schema) +
                                  postgres::quote_identifier(pattern.name());
        if (names.insert(place).second) continue;
        throw Error(sqlstate::kDuplicateRelation,
                    fmt::format("cannot restore two tables named \"{}\" into schema \"{}\" of "
                                "database \"{}\"",
                                pattern.name(), schema, part->spec.into_db()))
            .hint("Restore one of them into another schema (into_schema), or under another name.");
      }
    }
    for (const auto& part : parts_) part->tables->check_live();
  }

  std::int64_t build(Workshop& workshop) override {
    std::int64_t rows = 0;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      Part& part = *parts_[i];
      part.checkpoint.Clear();
      part.checkpoint.set_token(fmt::format("{}_{}", run_.checkpoint.token(), i));
      part.run.dump_programs = run_.dump_programs;
    }
    save();
    for (const auto& part : parts_) rows += part->tables->build(workshop);
    return rows;
  }

  void finish() override {
    std::map<std::string, Connection> targets;
    std::vector<TableRestore*> finished;
    for (const auto& part : parts_) {
      if (part->tables->built() == Built::Final) continue;
      const std::string& name = part->spec.into_db();
      auto target = targets.find(name);
      if (target == targets.end()) {
        target = targets.emplace(name, run_.open_live(name)).first;
        target->second.simple_query("BEGIN", run_.stop());
      }
      part->tables->finish_in(target->second);
      finished.push_back(part->tables.get());
    }
    bool first = true;
    for (auto& [name, target] : targets) {
      if (!first) run_.job.pause_point("restore.objects_between_commits");
      first = false;
      // From the first commit on nothing may come between.
      target.simple_query("COMMIT", Stop::never());
    }
    for (TableRestore* tables : finished) tables->tell();
  }

  void remove_hidden() override {
    for (const auto& part : parts_) part->tables->remove_hidden();
  }

  Built built() override {
    std::vector<Built> states;
    for (const auto& part : parts_) states.push_back(part->tables->built());
    const auto is = [](Built wanted) { return [wanted](Built state) { return state == wanted; }; };
    if (std::ranges::all_of(states, is(Built::Final))) return Built::Final;
    if (std::ranges::any_of(states, is(Built::Final))) return Built::Partly;
    return std::ranges::any_of(states, is(Built::Gone)) ? Built::Gone : Built::Hidden;
  }

 private:
  struct Part {
    Part(const RestoreOfSeveralDatabases& all, const std::string& database)
        : run{.services = all.run_.services,
              .job = all.run_.job,
              .steps = all.run_.steps,
              .spec = spec,
              .checkpoint = checkpoint,
              .workers = all.run_.workers,
              .live_major = all.run_.live_major,
              .dump_programs = {},
              .between = all.run_.between,
              .save = [&all] { all.save(); }} {
      spec = all.run_.spec;
      spec.clear_tables();
      if (spec.into_db().empty()) spec.set_into_db(database);
    }

    proto::ObjectRestoreSpec spec;
    proto::ObjectRestoreCheckpoint checkpoint;
    ObjectRestoreRun run;
    std::unique_ptr<TableRestore> tables;
  };

  /// In the order in which the statement names them first.
  Part& part_of(const std::string& database) {
    const auto known = std::ranges::find_if(
        parts_, [&](const auto& part) { return part->spec.tables(0).database() == database; });
    if (known != parts_.end()) return **known;
    return *parts_.emplace_back(std::make_unique<Part>(*this, database));
  }

  void save() const {
    run_.checkpoint.clear_parts();
    for (const auto& part : parts_) *run_.checkpoint.add_parts() = part->checkpoint;
    run_.save_checkpoint();
  }

  const ObjectRestoreRun& run_;
  std::vector<std::unique_ptr<Part>> parts_;
};

}  // namespace

std::unique_ptr<ObjectRestore> make_table_restore(const ObjectRestoreRun& run,
                                                  const collection::proto::Manifest& manifest) {
  const auto& tables = run.spec.tables();
  const bool one = std::ranges::all_of(tables, [&](const auto& pattern) {
    return pattern.database() == tables.begin()->database();
  });
  if (one) return make_restore_of_database_tables(run, manifest);
  return std::make_unique<RestoreOfSeveralDatabases>(run, manifest);
}

}  // namespace holdfast::restore
