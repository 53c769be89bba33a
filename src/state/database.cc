#include "state/database.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "state/schema.h"
#include "state/secrets.h"

namespace holdfast::state {

namespace {

constexpr const char* kFileName = "holdfast.db";
constexpr const char* kKeyFileName = "holdfast.key";
/// A sealed empty text: whether a key is the one that this file's secrets were sealed with.
constexpr const char* kKeyCheck = "secrets.key_check";
/// Set once no clear text of an older holdfast is left in the file.
constexpr const char* kScrubbed = "secrets.scrubbed";
// Nobody else writes to the file while we hold the store's lock; a person may look into it with
// sqlite3(1).
constexpr int kBusyTimeoutMs = 1000;

[[noreturn]] void fail(sqlite3* connection, int code, std::string_view what) {
  const char* file = connection != nullptr ? sqlite3_db_filename(connection, "main") : nullptr;
  const std::string place = file != nullptr ? fmt::format("state file \"{}\"", file) : "state file";
  const std::string reason =
      connection != nullptr ? sqlite3_errmsg(connection) : sqlite3_errstr(code);
  const auto message = [&](std::string_view verb) {
    return fmt::format("could not {} {}: {}", verb, place, reason);
  };
  switch (code & 0xff) {  // the primary result code
    case SQLITE_FULL:
      throw Error(sqlstate::kDiskFull, message(what))
          .hint("Free some space on the file system of the store directory and try again.");
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      throw Error(sqlstate::kDataCorrupted, fmt::format("{} is damaged: {}", place, reason))
          .detail("It holds the list of jobs; backups do not depend on it.")
          .hint(
              "Stop holdfast, move the file and its -wal and -shm companions aside and start "
              "again: "
              "a new file is made, and every collection can still be listed and restored.");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      throw Error(sqlstate::kLockNotAvailable, message(what))
          .hint("Another program has the file open; close it.")
          .retry(Retry::Safe);
    case SQLITE_NOMEM:
      throw Error(sqlstate::kOutOfMemory, message(what));
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_CANTOPEN:
      throw Error(sqlstate::kInsufficientPrivilege, message(what))
          .hint("The store directory and its files must belong to the user that runs holdfast.");
    case SQLITE_IOERR:
      throw Error(sqlstate::kIoError, message(what))
          .hint("Look into the system's log for errors of the device.");
    default:
      throw Error(sqlstate::kInternalError, message(what));
  }
}

void run(sqlite3* connection, const char* sql, std::string_view what) {
  const int code = sqlite3_exec(connection, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) fail(connection, code, what);
}

std::filesystem::path prepare_directory(const std::filesystem::path& store) {
  std::error_code failure;
  if (!std::filesystem::exists(store, failure)) {
    std::filesystem::create_directories(store, failure);
    if (failure) {
      throw_errno(fmt::format("create store directory \"{}\"", store.string()), failure.value());
    }
    std::filesystem::permissions(store, std::filesystem::perms::owner_all);
  }
  return store / kFileName;
}

/// Creates the file with its final mode, because SQLite's companions take over the mode of the
/// file.
void create_file(const std::filesystem::path& file) {
  UniqueFd created(open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!created) throw_errno(fmt::format("open state file \"{}\"", file.string()));
  if (fchmod(created.get(), 0600) != 0) {
    throw_errno(fmt::format("set the mode of state file \"{}\"", file.string()));
  }
}

}  // namespace

Statement::Statement(sqlite3* connection, std::string_view sql,
                     std::initializer_list<Parameter> parameters)
    : connection_(connection) {
  int code = sqlite3_prepare_v2(connection_, sql.data(), static_cast<int>(sql.size()), &statement_,
                                nullptr);
  if (code != SQLITE_OK) fail(connection_, code, "query");
  HF_ASSERT(sqlite3_bind_parameter_count(statement_) == static_cast<int>(parameters.size()));
  int index = 0;
  for (const Parameter& parameter : parameters) {
    ++index;
    const auto& value = parameter.value_;
    if (const auto* integer = std::get_if<std::int64_t>(&value)) {
      code = sqlite3_bind_int64(statement_, index, *integer);
    } else if (const auto* real = std::get_if<double>(&value)) {
      code = sqlite3_bind_double(statement_, index, *real);
    } else if (const auto* text = std::get_if<std::string_view>(&value)) {
      // A null pointer would bind NULL.
      const char* data = text->data() != nullptr ? text->data() : "";
      code =
          sqlite3_bind_text64(statement_, index, data, text->size(), SQLITE_TRANSIENT, SQLITE_UTF8);
    } else if (const auto* bytes = std::get_if<ByteView>(&value)) {
      const void* data = bytes->data() != nullptr ? static_cast<const void*>(bytes->data()) : "";
      code = sqlite3_bind_blob64(statement_, index, data, bytes->size(), SQLITE_TRANSIENT);
    }  // monostate stays NULL
    if (code != SQLITE_OK) {
      sqlite3_finalize(statement_);
      fail(connection_, code, "query");
    }
  }
}

Statement::Statement(Statement&& other) noexcept
    : connection_(other.connection_), statement_(std::exchange(other.statement_, nullptr)) {}

Statement::~Statement() { sqlite3_finalize(statement_); }

bool Statement::step() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) fail(connection_, code, "query");
  return false;
}

bool Statement::is_null(int column) const {
  return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

std::int64_t Statement::integer(int column) const {
  return sqlite3_column_int64(statement_, column);
}

double Statement::real(int column) const { return sqlite3_column_double(statement_, column); }

std::string Statement::text(int column) const {
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
  const int length = sqlite3_column_bytes(statement_, column);
  return data != nullptr ? std::string(data, static_cast<std::size_t>(length)) : std::string();
}

Bytes Statement::bytes(int column) const {
  const void* data = sqlite3_column_blob(statement_, column);
  Bytes bytes(static_cast<std::size_t>(sqlite3_column_bytes(statement_, column)));
  if (!bytes.empty()) std::memcpy(bytes.data(), data, bytes.size());
  return bytes;
}

Time Statement::time(int column) const { return time_from_us(integer(column)); }

std::optional<std::int64_t> Statement::optional_integer(int column) const {
  return is_null(column) ? std::nullopt : std::optional(integer(column));
}

std::optional<std::string> Statement::optional_text(int column) const {
  return is_null(column) ? std::nullopt : std::optional(text(column));
}

std::optional<Bytes> Statement::optional_bytes(int column) const {
  return is_null(column) ? std::nullopt : std::optional(bytes(column));
}

std::optional<Time> Statement::optional_time(int column) const {
  return is_null(column) ? std::nullopt : std::optional(time(column));
}

void Database::Closer::operator()(sqlite3* connection) const { sqlite3_close(connection); }

Database::Database(const std::filesystem::path& store)
    : file_(prepare_directory(store)), lock_(store) {
  create_file(file_);
  sqlite3* connection = nullptr;
  const int code = sqlite3_open_v2(file_.c_str(), &connection,
                                   SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  connection_.reset(connection);
  if (code != SQLITE_OK) fail(connection, code, "open");
  configure();
  migrate();
  open_secrets(store / kKeyFileName);
}

Database::~Database() = default;

void Database::configure() {
  sqlite3* connection = connection_.get();
  sqlite3_extended_result_codes(connection, 1);
  sqlite3_busy_timeout(connection, kBusyTimeoutMs);
  run(connection, "PRAGMA journal_mode = WAL", "open");
  run(connection, "PRAGMA synchronous = FULL", "open");
  run(connection, "PRAGMA foreign_keys = ON", "open");
  // What was deleted or replaced is overwritten with zeros.
  run(connection, "PRAGMA secure_delete = ON", "open");
  Transaction transaction(*this);
  Statement check = transaction.query("PRAGMA quick_check(1)");
  if (check.step() && check.text(0) != "ok") fail(connection, SQLITE_CORRUPT, "open");
}

void Database::migrate() {
  Transaction transaction(*this);
  std::int64_t version = 0;
  {
    Statement statement = transaction.query("PRAGMA user_version");
    if (statement.step()) version = statement.integer(0);
  }
  const auto steps = migrations();
  if (version < 0 || version > static_cast<std::int64_t>(steps.size())) {
    throw Error(sqlstate::kFeatureNotSupported,
                fmt::format("state file \"{}\" has schema version {}, this holdfast knows versions "
                            "up to {}",
                            file_.string(), version, steps.size()))
        .hint("A newer holdfast has used this store; start that one, or use another --store.");
  }
  for (const char* step : steps.subspan(static_cast<std::size_t>(version))) {
    run(connection_.get(), step, "upgrade");
  }
  if (version < static_cast<std::int64_t>(steps.size())) {
    // PRAGMA takes no parameters.
    run(connection_.get(), fmt::format("PRAGMA user_version = {}", steps.size()).c_str(),
        "upgrade");
  }
  transaction.commit();
}

/// A key that is gone must not be replaced by a new one in silence: schedules and connections would
/// be lost at their next use, one by one.
void Database::open_secrets(const std::filesystem::path& key_file) {
  const std::optional<std::string> check = setting(kKeyCheck);
  sealer_ = read_key_file(key_file);
  if (check) {
    const auto refuse = [&](std::string_view problem) {
      throw Error(sqlstate::kConfigFileError,
                  fmt::format("key file \"{}\" {}", key_file.string(), problem))
          .detail(fmt::format("It opens the secrets in state file \"{}\".", file_.string()))
          .hint(
              "Put the right key file back. Without it, move the state file and its -wal and -shm "
              "companions aside and start again: jobs, schedules and external connections are "
              "lost then, and every collection can still be listed and restored.");
    };
    if (!sealer_) refuse("does not exist");
    const std::optional<Bytes> sealed = from_hex(*check);
    try {
      sealer_->open(sealed.value_or(Bytes()), kKeyCheck);
    } catch (const Error&) {
      refuse("has another key than the state file");
    }
  } else {
    if (!sealer_) sealer_ = create_key_file(key_file);
    begin_secrets();
  }
  if (!setting(kScrubbed)) scrub();
}

/// Seals what a holdfast without a key stored in clear, and remembers which key it was.
void Database::begin_secrets() {
  Transaction transaction(*this);
  std::vector<std::pair<std::int64_t, Bytes>> clear;
  {
    Statement row = transaction.query("SELECT job_id, specification FROM job_blobs");
    while (row.step()) clear.emplace_back(row.integer(0), row.bytes(1));
  }
  for (const auto& [id, specification] : clear) {
    transaction.execute("UPDATE job_blobs SET specification = ? WHERE job_id = ?",
                        {seal(specification, specification_place(id)), id});
  }
  transaction.execute("INSERT INTO settings (name, value) VALUES (?, ?)",
                      {kKeyCheck, to_hex(seal({}, kKeyCheck))});
  transaction.commit();
}

/// Removes old clear text from pages that are free now and from the write-ahead log.
void Database::scrub() {
  run(connection_.get(), "VACUUM", "scrub");
  run(connection_.get(), "PRAGMA wal_checkpoint(TRUNCATE)", "scrub");
  set_setting(kScrubbed, "yes");
}

std::string specification_place(std::int64_t job_id) {
  return fmt::format("job_blobs.specification.{}", job_id);
}

std::optional<std::string> Database::setting(std::string_view name) {
  Transaction transaction(*this);
  Statement statement = transaction.query("SELECT value FROM settings WHERE name = ?", {name});
  if (!statement.step()) return std::nullopt;
  return statement.text(0);
}

void Database::set_setting(std::string_view name, std::string_view value) {
  Transaction transaction(*this);
  transaction.execute(
      "INSERT INTO settings (name, value) VALUES (?, ?) "
      "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
      {name, value});
  transaction.commit();
}

Transaction::Transaction(Database& database)
    : lock_(database.mutex_), connection_(database.connection_.get()) {
  run(connection_, "BEGIN IMMEDIATE", "begin a transaction in");
  open_ = true;
}

Transaction::~Transaction() {
  // Some failures (a full disk among them) have rolled back already.
  if (open_ && sqlite3_get_autocommit(connection_) == 0) {
    sqlite3_exec(connection_, "ROLLBACK", nullptr, nullptr, nullptr);
  }
}

Statement Transaction::query(std::string_view sql, std::initializer_list<Parameter> parameters) {
  return Statement(connection_, sql, parameters);
}

std::int64_t Transaction::execute(std::string_view sql,
                                  std::initializer_list<Parameter> parameters) {
  Statement statement(connection_, sql, parameters);
  while (statement.step()) {
  }
  return sqlite3_changes64(connection_);
}

void Transaction::commit() {
  run(connection_, "COMMIT", "write to");
  open_ = false;
}

}  // namespace holdfast::state
