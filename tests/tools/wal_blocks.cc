// wal_blocks <pg_wal> <major> <timeline> <start LSN> <end LSN>
//
// Prints the block map of a range of WAL, for comparison with what PostgreSQL's own tools say: one
// line "<tablespace> <database> <relation> <fork> limit|block <number>" for each limit and each
// block before it, "database <tablespace> <database>" and "minimal". Relations and blocks of whole
// databases are left out.
#include <fmt/core.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/error.h"
#include "collection/block_map.h"

namespace {

using namespace holdfast;

void print(const collection::BlockMap& map) {
  if (map.is_wal_minimal()) fmt::print("minimal\n");
  for (const auto& [database, tablespace] : map.databases()) {
    fmt::print("database {} {}\n", tablespace, database);
  }
  map.for_each([](const collection::ForkLocator& fork, const collection::ForkChanges& changes) {
    const std::string name =
        fmt::format("{} {} {} {}", fork.relation.tablespace, fork.relation.database,
                    fork.relation.relation, static_cast<int>(fork.fork));
    if (changes.limit != collection::ForkChanges::kNoLimit) {
      fmt::print("{} limit {}\n", name, changes.limit);
    }
    changes.blocks.for_each_run([&](const collection::BlockRun& run) {
      for (std::uint32_t i = 0; i < run.count; ++i) {
        fmt::print("{} block {}\n", name, run.first + i);
      }
    });
  });
}

std::uint64_t segment_bytes_of(const std::string& directory) {
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().filename().string().size() == 24) return entry.file_size();
  }
  throw Error(sqlstate::kUndefinedFile, fmt::format("no WAL segment in \"{}\"", directory));
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 6) return 2;
  try {
    const std::string directory = arguments[1];
    const auto timeline = static_cast<postgres::TimelineId>(std::stoul(arguments[3]));
    const std::uint64_t segment_bytes = segment_bytes_of(directory);
    const postgres::WalRange range{.reader = {.major = std::stoi(arguments[2]),
                                              .wal_segment_bytes = segment_bytes,
                                              .start = postgres::parse_lsn(arguments[4]).value()},
                                   .end = postgres::parse_lsn(arguments[5]).value()};
    print(collection::build_block_map(
        range, timeline, postgres::wal_directory_input(directory, timeline, segment_bytes),
        Stop::never()));
    return 0;
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n{}\n", error.message(), error.detail());
    return 1;
  }
}
