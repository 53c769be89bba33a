#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::sql {

/// A place where the grammar takes a string literal: the string, or the parameter $n that stands
/// for it until bind_parameters() has filled `value` and cleared `parameter`.
struct Text {
  std::string value;
  std::optional<int> parameter;

  friend bool operator==(const Text&, const Text&) = default;
};

/// One URI, or the parenthesised list of them. Never empty in a parsed statement.
using Uris = std::vector<Text>;

enum class OptionType {
  Flag,          ///< the bare name
  Boolean,       ///< the bare name, or = true | false
  BooleanValue,  ///< = true | false
  String,        ///< = 's'
  Scalar,        ///< = 's', = word or = number; the text is kept
  Integer,       ///< = n, not negative
  UriList        ///< = 's' or = ('s', …)
};

/// How a value is shown where secrets must not be.
enum class Secret {
  No,
  Yes,     ///< '*****'
  Uri,     ///< secret parameters of a storage URI become "redacted"
  KmsUri,  ///< as Uri, and the path names the master key
};

/// The option lists of the grammar, as bits: an option may stand in several.
enum OptionList : unsigned {
  kBackup = 1u << 0,
  kRestore = 1u << 1,
  kShowBackup = 1u << 2,
  kShowBackups = 1u << 3,
  kShowJob = 1u << 4,
  kSchedule = 1u << 5,  ///< WITH SCHEDULE OPTIONS, SET SCHEDULE OPTION
  kCheckConnection = 1u << 6,
  kWalArchive = 1u << 7,
  kDeleteBackups = 1u << 8,
  kShowMilestones = 1u << 9,
  kVerifyBackup = 1u << 12,
};

struct OptionSpec {
  std::string_view name;  ///< lower case; several words are separated by one space
  OptionType type;
  Secret secret;
  unsigned lists;
  std::string_view note;  ///< what it does, in a few words (help texts)
};

/// Every option of every statement. Parser, printer, redaction and checks read this table only.
/// Source: CockroachDB's grammar 25.4 and the cheap additions of 26.x; "ours" marks holdfast's own.
inline constexpr OptionSpec kOptions[] = {
    {"revision_history", OptionType::Boolean, Secret::No, kBackup,
     "keep all WAL, so that any moment inside can be restored"},
    {"encryption_passphrase", OptionType::String, Secret::Yes,
     kBackup | kRestore | kShowBackup | kWalArchive | kDeleteBackups | kShowMilestones |
         kVerifyBackup,
     "passphrase that the data key is derived from"},
    {"kms", OptionType::UriList, Secret::KmsUri,
     kBackup | kRestore | kShowBackup | kWalArchive | kDeleteBackups | kShowMilestones |
         kVerifyBackup,
     "master keys that wrap the data key"},
    {"detached", OptionType::Boolean, Secret::No, kBackup | kDeleteBackups | kVerifyBackup,
     "return the job id at once"},
    {"detached", OptionType::Flag, Secret::No, kRestore, "return the job id at once"},
    {"incremental_location", OptionType::UriList, Secret::Uri,
     kBackup | kRestore | kShowBackup | kDeleteBackups | kVerifyBackup,
     "other root for the incrementals of the chain"},
    {"execution locality", OptionType::String, Secret::No, kBackup | kRestore,
     "run only on nodes with these locality tiers"},
    {"updates_cluster_monitoring_metrics", OptionType::Boolean, Secret::No, kBackup,
     "maintain the metric of the last KMS failure"},
    {"include_all_virtual_clusters", OptionType::BooleanValue, Secret::No, kBackup | kRestore,
     "virtual clusters, which PostgreSQL does not have"},
    {"strict storage locality", OptionType::Flag, Secret::No, kBackup,
     "write only to destinations of the data's own locality"},
    {"compression", OptionType::String, Secret::No, kBackup,
     "ours: 'zstd', 'zstd:N', 'lz4' or 'none'"},
    {"max_rate", OptionType::Scalar, Secret::No, kBackup | kRestore,
     "ours: bytes per second, with kB, MB or GB"},
    {"protect", OptionType::Boolean, Secret::No, kBackup,
     "ours: keep what tells the next incremental the changes; on unless = false"},
    {"allow_corrupt_pages", OptionType::Flag, Secret::No, kBackup,
     "ours: record corrupt pages in the manifest and go on"},
    {"workers", OptionType::Integer, Secret::No, kBackup | kRestore | kVerifyBackup,
     "ours: copying threads"},
    {"object_lock", OptionType::String, Secret::No, kBackup | kWalArchive,
     "ours: 'governance' or 'compliance': the storage keeps objects for retain_for"},
    {"retain_for", OptionType::String, Secret::No, kBackup | kWalArchive,
     "ours: how long object_lock keeps them"},
    {"restore_from_versions_at", OptionType::String, Secret::No,
     kRestore | kShowBackup | kShowBackups, "ours: read the storage as it was at this moment"},

    {"into_db", OptionType::String, Secret::No, kRestore,
     "existing database to restore tables into"},
    {"new_db_name", OptionType::String, Secret::No, kRestore, "name for the restored database"},
    {"into_schema", OptionType::String, Secret::No, kRestore,
     "ours: schema to restore tables into"},
    {"new_table_name", OptionType::String, Secret::No, kRestore,
     "ours: name for the restored table"},
    {"where", OptionType::String, Secret::No, kRestore,
     "ours: restore only the rows of the table that fulfil this condition"},
    {"skip_missing_foreign_keys", OptionType::Flag, Secret::No, kRestore,
     "leave out foreign keys whose other table is absent"},
    {"skip_missing_sequences", OptionType::Flag, Secret::No, kRestore,
     "leave out defaults that use absent sequences"},
    {"skip_missing_sequence_owners", OptionType::Flag, Secret::No, kRestore,
     "leave out the OWNED BY link to an absent table"},
    {"skip_missing_views", OptionType::Flag, Secret::No, kRestore,
     "leave out views whose dependencies are absent"},
    {"skip_missing_udfs", OptionType::Flag, Secret::No, kRestore,
     "leave out defaults that use absent functions"},
    {"skip_localities_check", OptionType::Flag, Secret::No, kRestore, "allow other regions"},
    {"remove_regions", OptionType::Flag, Secret::No, kRestore, "drop the regions of the objects"},
    {"schema_only", OptionType::Flag, Secret::No, kRestore, "create objects without rows"},
    {"verify_backup_table_data", OptionType::Flag, Secret::No, kRestore,
     "with schema_only: read and check all data too"},
    {"unsafe_restore_incompatible_version", OptionType::Flag, Secret::No, kRestore,
     "skip the check of versions"},
    {"experimental deferred copy", OptionType::Flag, Secret::No, kRestore,
     "usable at once, data follows in the background"},
    {"experimental copy", OptionType::Flag, Secret::No, kRestore, "link first, then copy"},
    {"virtual_cluster_name", OptionType::String, Secret::No, kRestore,
     "virtual clusters, which PostgreSQL does not have"},
    {"virtual_cluster", OptionType::String, Secret::No, kRestore,
     "virtual clusters, which PostgreSQL does not have"},
    {"grants", OptionType::Flag, Secret::No, kRestore,
     "keep owner and privileges of existing roles"},
    {"data_directory", OptionType::String, Secret::No, kRestore,
     "ours: lay out the cluster in this new directory"},
    {"tablespace_mapping", OptionType::String, Secret::No, kRestore,
     "ours: 'OID-or-old-path=new-path,…'"},
    {"delta", OptionType::Flag, Secret::No, kRestore,
     "ours: keep the parts of an existing directory that are right"},

    {"mode", OptionType::String, Secret::No, kWalArchive,
     "ours: 'full' stores WAL and block maps, 'maps' block maps only"},

    {"dry_run", OptionType::Flag, Secret::No, kDeleteBackups,
     "ours: say what would be deleted, and delete nothing"},

    {"as_json", OptionType::Flag, Secret::No, kShowBackup, "one row per layer: its manifest"},
    {"check_files", OptionType::Flag, Secret::No, kShowBackup, "verify that every object is there"},
    {"debug_ids", OptionType::Flag, Secret::No, kShowBackup, "add the id columns"},
    {"privileges", OptionType::Flag, Secret::No, kShowBackup, "add privileges and owner"},
    {"skip size", OptionType::Flag, Secret::No, kShowBackup, "do not compute sizes and rows"},
    {"encryption_info_dir", OptionType::String, Secret::Uri, kShowBackup,
     "where ENCRYPTION-INFO is"},

    {"index", OptionType::Flag, Secret::No, kShowBackups, "read the index only"},
    {"revision start time", OptionType::Flag, Secret::No, kShowBackups,
     "add the start of the revision history"},

    {"execution details", OptionType::Flag, Secret::No, kShowJob,
     "add columns about the execution"},
    {"resolved timestamp", OptionType::Flag, Secret::No, kShowJob,
     "changefeeds, which PostgreSQL does not have"},

    {"first_run", OptionType::Scalar, Secret::No, kSchedule, "time of the first run, or now"},
    {"on_execution_failure", OptionType::Scalar, Secret::No, kSchedule,
     "retry, reschedule or pause"},
    {"on_previous_running", OptionType::Scalar, Secret::No, kSchedule, "start, skip or wait"},
    {"ignore_existing_backups", OptionType::Flag, Secret::No, kSchedule,
     "accept a collection that holds backups"},
    {"updates_cluster_last_backup_time_metric", OptionType::Boolean, Secret::No, kSchedule,
     "maintain the metric of the last backup"},
    {"retention", OptionType::Scalar, Secret::No, kSchedule,
     "ours: delete backups older than this after each success"},
    {"keep_fulls", OptionType::Integer, Secret::No, kSchedule,
     "ours: delete all but this many fulls after each success"},
    {"time_zone", OptionType::Scalar, Secret::No, kSchedule,
     "ours: zone of the recurrence, instead of UTC"},

    {"transfer", OptionType::String, Secret::No, kCheckConnection, "bytes to write and read"},
    {"time", OptionType::String, Secret::No, kCheckConnection, "how long to write and read"},
    {"concurrently", OptionType::Integer, Secret::No, kCheckConnection, "copying threads"},
};

/// The option of that name in one of these lists; nullptr when there is none.
constexpr const OptionSpec* find_option(std::string_view name, unsigned lists) {
  for (const OptionSpec& spec : kOptions) {
    if (spec.name == name && (spec.lists & lists) != 0) return &spec;
  }
  return nullptr;
}

/// Whether any option has this name. (Not by way of find_option: GCC 12 with -fsanitize=undefined
/// does not take a comparison of its result with nullptr for constant.)
constexpr bool is_option(std::string_view name) {
  for (const OptionSpec& spec : kOptions) {
    if (spec.name == name) return true;
  }
  return false;
}

/// A name from kOptions; one that is not there does not compile.
class OptionName {
 public:
  consteval OptionName(const char* name) : name_(name) {
    if (!is_option(name)) throw "no option has this name";
  }
  constexpr std::string_view view() const { return name_; }

 private:
  std::string_view name_;
};

/// One option as it was given. `name` points into kOptions.
struct Option {
  std::string_view name;
  bool enabled = true;       ///< Flag and Boolean: false only for = false
  std::vector<Text> values;  ///< one for String, Scalar and Integer; the list for UriList

  friend bool operator==(const Option&, const Option&) = default;
};

/// The options of one statement, in the order given. Each at most once.
struct Options {
  std::vector<Option> list;

  bool empty() const { return list.empty(); }
  /// The option, or nullptr when it was not given.
  const Option* find(OptionName name) const;
  /// True when it was given and not as = false.
  bool flag(OptionName name) const;
  /// The text of a String, Scalar or Integer option; absent when it was not given.
  std::optional<std::string> text(OptionName name) const;
  /// The number of an Integer option; absent when it was not given. Throws 22023 when a bound
  /// parameter is not a number.
  std::optional<std::int64_t> integer(OptionName name) const;
  /// The strings of a UriList option; empty when it was not given.
  std::vector<std::string> uris(OptionName name) const;

  friend bool operator==(const Options&, const Options&) = default;
};

}  // namespace holdfast::sql
