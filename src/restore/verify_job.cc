#include "restore/verify_job.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <span>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/encryption.h"
#include "collection/scope.h"
#include "restore/checks.h"
#include "restore/job_records.h"
#include "restore/known_files.h"
#include "restore/recovery_target.h"
#include "restore/relation_checks.h"
#include "restore/store_access.h"
#include "restore/workshop.h"

namespace holdfast::restore {
namespace {

/// CockroachDB lists at most this many problems.
constexpr std::size_t kMostProblemsListed = 10;

std::string workshop_directory(const ObjectRestoreServices& services, const jobs::JobContext& job) {
  return fmt::format("{}/{}", services.workshops, job.id());
}

std::string and_more(std::size_t all, std::size_t listed) {
  return all > listed ? fmt::format("\nand {} more", all - listed) : std::string();
}

/// One run of resume().
class VerifyAttempt {
 public:
  VerifyAttempt(const ObjectRestoreServices& services, jobs::JobContext& job)
      : services_(services),
        job_(job),
        spec_(parse_record<proto::RestoreJobSpec>(job.specification(), "specification")),
        workers_(spec_.workers() != 0 ? std::min<std::size_t>(spec_.workers(), kMaxWorkers)
                                      : std::max(1U, std::thread::hardware_concurrency())) {
    if (const auto bytes = job.checkpoint()) {
      checkpoint_ = parse_record<proto::VerifyCheckpoint>(*bytes, "checkpoint");
    }
  }

  void run() {
    services_.authorize(spec_, stop());
    store_ = collection::with_keys(open_collection(spec_, services_.open_store, stop()),
                                   collection::parse_keys(spec_.keys()));
    if (!checkpoint_.objects_checked()) check_objects();
    job_.pause_point("verify.after_objects");
    check_instance();
  }

 private:
  const Stop& stop() const { return job_.stop(); }

  void report(std::string phase) const {
    job_.report({.bytes_done = 0, .bytes_total = 0, .phase = std::move(phase)});
  }

  void save() const {
    const std::string bytes = checkpoint_.SerializeAsString();
    job_.save_checkpoint(as_bytes(bytes));
  }

  Error damaged(const std::string& what) const {
    return Error(sqlstate::kDataCorrupted,
                 fmt::format("backup \"{}\" is damaged: {}", spec_.subdirectory(), what));
  }

  /// Everything that the chain consists of, also what newer layers have covered.
  void check_objects() {
    report("reading objects");
    const auto chain = collection::read_chain(*store_, spec_.subdirectory(), stop());
    const auto problems = collection::verify_data(*store_, chain, workers_, stop());
    if (!problems.empty()) {
      std::string list;
      for (const auto& problem :
           std::span(problems).first(std::min<std::size_t>(problems.size(), kMostProblemsListed))) {
        list += fmt::format("{}{}: {}", list.empty() ? "" : "\n", problem.key, problem.problem);
      }
      throw damaged(fmt::format("{}: {}", problems[0].key, problems[0].problem))
          .detail(list + and_more(problems.size(), kMostProblemsListed))
          .hint("Take a new full backup, and find out what changed the storage.");
    }
    checkpoint_.set_objects_checked(true);
    save();
  }

  /// As a server that has recovered the backup sees it.
  void check_instance() {
    auto chain = read_restorable_chain(*store_, spec_.subdirectory(), stop());
    adopt_target(chain.back(), spec_);
    const proto::RecoveryTarget* target = spec_.has_target() ? &spec_.target() : nullptr;
    if (target != nullptr) add_wal_up_to(*target, *store_, chain.back(), stop());
    report("recovering");
    Workshop workshop(
        {.directory = workshop_directory(services_, job_),
         .pg_bin = find_server_programs(services_.programs(stop()), chain.back(), stop()),
         .chain = chain,
         .target = target,
         .store = *store_,
         .files = *services_.files,
         .workers = workers_});
    const std::string database = start(workshop, chain.back());
    job_.pause_point("verify.after_recovery");
    const RelationChecks checks =
        check_relations(workshop, database, parts_of(chain.back()), workers_, job_);
    if (checks.damaged != 0) {
      throw damaged(checks.damage.front())
          .detail(fmt::format("{}", fmt::join(checks.damage, "\n")) +
                  and_more(static_cast<std::size_t>(checks.damaged), checks.damage.size()))
          .hint(
              "What was stored is what was read from the server: look at these relations there, "
              "with pg_amcheck. REINDEX mends indexes.");
    }
    refuse_recorded_damage(chain);
    remember(checks);
  }

  std::string start(Workshop& workshop, const collection::proto::Manifest& manifest) const {
    const Between between{.base = spec_.subdirectory(), .wal_layer = spec_.target().wal_layer()};
    try {
      std::string database = workshop.start(scope_of(manifest), databases_to_try(manifest), stop());
      for (const auto& part : manifest.scope_databases()) {
        if (part.tables().empty() || between.wal_layer.empty()) continue;
        auto catalogs = workshop.open(name_of(workshop, database, part), stop());
        require_known_files(catalogs, part,
                            fmt::format("c.oid IN (0{}{})", part.relations().empty() ? "" : ", ",
                                        fmt::join(part.relations(), ", ")),
                            between, stop());
      }
      return database;
    } catch (const Error& error) {
      for (const auto& part : manifest.scope_databases()) {
        if (!lacks_file_of_catalog(error, part, between)) continue;
        throw unknown_file(fmt::format("a catalog of database \"{}\"", part.name()), between);
      }
      throw;
    }
  }

  /// At the moment that the workshop has recovered.
  std::string name_of(Workshop& workshop, const std::string& database,
                      const collection::proto::ScopeDatabase& part) const {
    const auto found =
        workshop.open(database, stop())
            .query("SELECT datname FROM pg_catalog.pg_database WHERE oid = $1::pg_catalog.oid",
                   {std::to_string(part.oid())}, stop());
    return found.rows() == 0 ? part.name() : found.text(0, 0);
  }

  /// Pages that BACKUP WITH allow_corrupt_pages took as they were. A newer layer may have replaced
  /// one, but which are still there is not asked: what was not right once gets no good mark.
  void refuse_recorded_damage(std::span<const collection::proto::Manifest> chain) const {
    for (const auto& layer : chain) {
      if (layer.corrupt_pages_size() == 0) continue;
      throw damaged(fmt::format("layer \"{}\" recorded {} corrupt pages when it was taken",
                                layer.subdirectory(), layer.corrupt_pages_size()))
          .detail(fmt::format("The first is block {} of \"{}\".", layer.corrupt_pages(0).block(),
                              layer.corrupt_pages(0).path()));
    }
  }

  void remember(const RelationChecks& checks) {
    checkpoint_.set_databases(checks.databases);
    checkpoint_.set_tables(checks.tables);
    checkpoint_.set_indexes(checks.indexes);
    checkpoint_.set_unchecked(checks.unchecked);
    checkpoint_.set_bytes(checks.bytes);
    save();
    job_.set_result_rows(checks.tables + checks.indexes);
    job_.set_result_bytes(checks.bytes);
    log::info("backup \"{}\" is good: databases={} tables={} indexes={} unchecked={} bytes={}",
              spec_.subdirectory(), checks.databases, checks.tables, checks.indexes,
              checks.unchecked, checks.bytes);
  }

  /// All that the layer has: its own WAL is of that alone.
  postgres::WalScope scope_of(const collection::proto::Manifest& manifest) const {
    postgres::WalScope scope{.databases = {}, .everything = !collection::is_scoped(manifest)};
    for (const auto& database : manifest.scope_databases()) {
      auto& relations = scope.databases[database.oid()];
      const bool history = manifest.has_history() || !spec_.target().wal_layer().empty();
      if (database.tables().empty() || !history) continue;
      // A history has WAL of files, too, that are not whole, or not the layer's any more.
      relations.all = false;
      relations.files.insert(database.files().begin(), database.files().end());
    }
    return scope;
  }

  static std::vector<CheckedDatabase> parts_of(const collection::proto::Manifest& manifest) {
    std::vector<CheckedDatabase> parts;
    for (const auto& database : manifest.scope_databases()) {
      auto& part = parts.emplace_back(CheckedDatabase{.oid = database.oid(), .relations = {}});
      if (database.tables().empty()) continue;
      part.relations.insert(database.relations().begin(), database.relations().end());
    }
    return parts;
  }

  const ObjectRestoreServices& services_;
  jobs::JobContext& job_;
  proto::RestoreJobSpec spec_;
  proto::VerifyCheckpoint checkpoint_;
  std::size_t workers_;
  std::unique_ptr<storage::ObjectStore> store_;
};

}  // namespace

void VerifyJob::resume(jobs::JobContext& job) { VerifyAttempt(services_, job).run(); }

void VerifyJob::revert(jobs::JobContext& job) {
  // Of an earlier process, if any: this one's is gone with the attempt.
  remove_workshop_directory(workshop_directory(services_, job), *services_.files);
}

}  // namespace holdfast::restore
