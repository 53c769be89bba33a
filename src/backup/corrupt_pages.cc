#include "backup/corrupt_pages.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>

#include "base/log.h"
#include "postgres/page.h"

namespace holdfast::backup {

namespace {

constexpr std::size_t kMaxListed = 20;

std::string path_of(const postgres::BlockKey& key, std::string_view version_directory) {
  return postgres::print_relation_path({.relation = key.relation,
                                        .fork = key.fork,
                                        .segment = key.block / postgres::kRelationSegmentBlocks},
                                       version_directory);
}

/// Asks the server for relations' names. One connection for each database, as long as needed.
class RelationNames {
 public:
  RelationNames(const postgres::ConnectOptions& connect, const Stop& stop)
      : connect_(connect), stop_(stop) {}

  /// Empty when the server does not tell.
  std::string find(const postgres::RelationLocator& relation) {
    auto [entry, added] = names_.try_emplace(relation);
    if (!added) return entry->second;
    try {
      entry->second = ask(relation);
    } catch (const Error& error) {
      // The page is reported all the same: the catalog that names it may be what is broken.
      log::warning("could not find the name of relation {}: {}", relation.relation,
                   error.message());
    }
    return entry->second;
  }

 private:
  std::string ask(const postgres::RelationLocator& relation) {
    const auto database = database_name(relation.database);
    if (!database) return {};
    auto options = connect_;
    if (relation.database != 0) options.database = database;
    auto connection = postgres::Connection::open(options, stop_);
    const auto result = connection.query(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid = pg_catalog.pg_filenode_relation($1::oid, $2::oid)",
        {std::to_string(relation.tablespace), std::to_string(relation.relation)}, stop_);
    if (result.rows() == 0) return {};
    return fmt::format("\"{}.{}\" of database \"{}\"", result.text(0, 0), result.text(0, 1),
                       *database);
  }

  std::optional<std::string> database_name(std::uint32_t oid) {
    if (oid == 0) return "(shared)";
    auto connection = postgres::Connection::open(connect_, stop_);
    const auto result =
        connection.query("SELECT datname FROM pg_catalog.pg_database WHERE oid = $1::oid",
                         {std::to_string(oid)}, stop_);
    if (result.rows() == 0) return std::nullopt;
    return result.text(0, 0);
  }

  const postgres::ConnectOptions& connect_;
  const Stop& stop_;
  std::map<postgres::RelationLocator, std::string> names_;
};

std::string describe(const CorruptPageReport& page) {
  std::string text = fmt::format("block {} of file \"{}\"", page.key.block, page.path);
  if (!page.relation.empty()) text += fmt::format(", relation {}", page.relation);
  return text;
}

}  // namespace

std::vector<CorruptPageReport> describe_corrupt_pages(const std::vector<postgres::BlockKey>& pages,
                                                      std::string_view tablespace_version_directory,
                                                      const postgres::ConnectOptions& connect,
                                                      const Stop& stop) {
  RelationNames names(connect, stop);
  std::vector<CorruptPageReport> reports;
  for (const auto& key : pages) {
    auto& report = reports.emplace_back();
    report.key = key;
    report.path = path_of(key, tablespace_version_directory);
    if (reports.size() <= kMaxListed) report.relation = names.find(key.relation);
  }
  return reports;
}

std::string list_corrupt_pages(const std::vector<CorruptPageReport>& pages) {
  std::string text;
  for (std::size_t i = 0; i < std::min(pages.size(), kMaxListed); ++i) {
    text += fmt::format("{}{}", i == 0 ? "" : "\n", describe(pages[i]));
  }
  if (pages.size() > kMaxListed) text += fmt::format("\nand {} more", pages.size() - kMaxListed);
  return text;
}

Error corrupt_pages_error(const std::vector<CorruptPageReport>& pages) {
  std::string message = fmt::format("corrupt page in {}", describe(pages.front()));
  if (pages.size() > 1) message += fmt::format(", and {} more", pages.size() - 1);
  return Error(sqlstate::kDataCorrupted, std::move(message))
      .detail(fmt::format("The page checksum is wrong and no WAL of the backup rewrites the page, "
                          "so it was damaged on disk:\n{}",
                          list_corrupt_pages(pages)))
      .hint(
          "Check the storage device, and restore the relation from an earlier backup. To take the "
          "backup with the damaged pages as they are, use WITH allow_corrupt_pages.");
}

bool heals_by_itself(postgres::Fork fork) {
  return fork == postgres::Fork::FreeSpaceMap || fork == postgres::Fork::VisibilityMap;
}

}  // namespace holdfast::backup
