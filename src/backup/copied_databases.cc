#include "backup/copied_databases.h"

#include <map>

namespace holdfast::backup {

namespace {

using postgres::DatabaseCopy;

/// Watches the sources of copies while records go by.
class Copies final : public postgres::WalChangeVisitor {
 public:
  explicit Copies(const std::function<bool(const postgres::DatabaseFiles&)>& has_all)
      : has_all_(has_all) {}

  void add(const DatabaseCopy& copy) { by_source_.insert_or_assign(copy.source, copy); }
  bool any() const { return !by_source_.empty(); }
  const std::optional<DatabaseCopy>& unsound() const { return unsound_; }

  void block(const postgres::WalBlock& block) override { changed(files_of(block.key.relation)); }
  void from(const postgres::BlockKey& first) override { changed(files_of(first.relation)); }
  void relation(const postgres::RelationLocator& relation) override { changed(files_of(relation)); }
  void database(std::uint32_t database, std::uint32_t tablespace) override {
    const postgres::DatabaseFiles files{.database = database, .tablespace = tablespace};
    const auto copy = by_source_.find(files);
    if (copy == by_source_.end()) return;
    if (!has_all_(files)) unsound_ = copy->second;
    by_source_.erase(copy);
  }

 private:
  static postgres::DatabaseFiles files_of(const postgres::RelationLocator& relation) {
    return {.database = relation.database, .tablespace = relation.tablespace};
  }
  void changed(const postgres::DatabaseFiles& files) {
    const auto copy = by_source_.find(files);
    if (copy != by_source_.end()) unsound_ = copy->second;
  }

  const std::function<bool(const postgres::DatabaseFiles&)>& has_all_;
  std::map<postgres::DatabaseFiles, DatabaseCopy> by_source_;
  std::optional<DatabaseCopy> unsound_;
};

}  // namespace

std::optional<DatabaseCopy> find_unsound_copy(
    const postgres::WalRange& wal, const postgres::WalInput& input,
    const std::function<bool(const postgres::DatabaseFiles&)>& has_all,
    const std::function<bool(std::uint32_t)>& wanted, const Stop& stop) {
  Copies copies(has_all);
  postgres::scan_wal(
      wal, input,
      [&](const postgres::WalRecord& record) {
        if (copies.unsound()) return;
        // Before it is a copy itself: of a database that is copied on, say.
        if (copies.any() && !postgres::is_hint_image(record)) {
          postgres::visit_changes(record, wal.reader.major, copies);
        }
        const auto copy = postgres::parse_database_copy(record);
        if (copy && wanted(copy->target.database)) copies.add(*copy);
      },
      stop);
  return copies.unsound();
}

}  // namespace holdfast::backup
