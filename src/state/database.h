#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "crypto/sealer.h"
#include "state/store_lock.h"

// SQLite stays inside this module.
struct sqlite3;
struct sqlite3_stmt;

namespace holdfast::state {

/// A value for a `?` of a query. Text and bytes are copied by the query, so temporaries are fine.
class Parameter {
 public:
  Parameter(std::nullopt_t) {}
  Parameter(std::int64_t value) : value_(value) {}
  Parameter(int value) : value_(std::int64_t{value}) {}
  Parameter(double value) : value_(value) {}
  Parameter(std::string_view value) : value_(value) {}
  Parameter(const std::string& value) : value_(std::string_view(value)) {}
  Parameter(const char* value) : value_(std::string_view(value)) {}
  Parameter(ByteView value) : value_(value) {}
  Parameter(const Bytes& value) : value_(ByteView(value)) {}
  Parameter(Time value) : value_(value.time_since_epoch().count()) {}
  template <typename T>
  Parameter(const std::optional<T>& value) {
    if (value) value_ = Parameter(*value).value_;
  }

 private:
  friend class Statement;
  std::variant<std::monostate, std::int64_t, double, std::string_view, ByteView> value_;
};

/// A running query; step() moves to its next row. Lives at most as long as its Transaction.
class Statement {
 public:
  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&&) = delete;
  ~Statement();

  /// False after the last row. Throws what the SQL led to.
  bool step();

  /// Columns count from 0. Reading NULL gives zero, or emptiness.
  bool is_null(int column) const;
  std::int64_t integer(int column) const;
  double real(int column) const;
  std::string text(int column) const;
  Bytes bytes(int column) const;
  Time time(int column) const;
  std::optional<std::int64_t> optional_integer(int column) const;
  std::optional<std::string> optional_text(int column) const;
  std::optional<Bytes> optional_bytes(int column) const;
  std::optional<Time> optional_time(int column) const;

 private:
  friend class Transaction;
  Statement(sqlite3* connection, std::string_view sql, std::initializer_list<Parameter> parameters);

  sqlite3* connection_;
  sqlite3_stmt* statement_ = nullptr;
};

/// The daemon's state: jobs, schedules, settings, in `STORE/holdfast.db` (SQLite, write-ahead log,
/// synchronous FULL: what was committed survives a power cut). Thread-safe: transactions of all
/// threads take turns on one connection, so keep them short and never wait for anything inside one.
///
/// What may hold a secret (URIs with their credentials, passphrases) goes into it through seal()
/// only. The key is `STORE/holdfast.key`: whoever gets a copy of the database alone learns nothing.
class Database {
 public:
  /// Creates `store` (mode 0700) and the file (0600) where absent, takes the store's lock, and
  /// brings the schema up to date. Throws kObjectInUse when another daemon has the store,
  /// kDataCorrupted when the file is damaged, kFeatureNotSupported when a newer holdfast wrote it,
  /// and kConfigFileError when the key is lost or another one; each says what to do.
  explicit Database(const std::filesystem::path& store);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  /// Small facts about this daemon, such as its node id. Absent when never set.
  std::optional<std::string> setting(std::string_view name);
  void set_setting(std::string_view name, std::string_view value);

  /// `plain` as it may be stored; `place` names table, column and row, for seal and unseal alike.
  Bytes seal(ByteView plain, std::string_view place) const { return sealer_->seal(plain, place); }
  /// Throws kDataCorrupted when the value was not sealed here, for this place.
  Bytes unseal(ByteView sealed, std::string_view place) const {
    return sealer_->open(sealed, place);
  }

 private:
  friend class Transaction;

  struct Closer {
    void operator()(sqlite3* connection) const;
  };

  void configure();
  void migrate();
  void open_secrets(const std::filesystem::path& key_file);
  void begin_secrets();
  void scrub();

  std::filesystem::path file_;
  StoreLock lock_;
  Mutex mutex_;
  // Used only inside a Transaction, which holds mutex_, and in the constructor.
  std::unique_ptr<sqlite3, Closer> connection_;
  std::unique_ptr<const crypto::Sealer> sealer_;
};

/// A transaction, alone on the connection while it lives. Rolled back unless commit() returned.
///
///     state::Transaction transaction(database);
///     transaction.execute("UPDATE jobs SET status = ? WHERE id = ?", {status, id});
///     transaction.commit();
class Transaction {
 public:
  explicit Transaction(Database& database);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  /// A query whose rows are read with step().
  Statement query(std::string_view sql, std::initializer_list<Parameter> parameters = {});
  /// Runs a statement to its end; gives the number of rows that it changed.
  std::int64_t execute(std::string_view sql, std::initializer_list<Parameter> parameters = {});
  /// Durable when it returns.
  void commit();

 private:
  std::unique_lock<Mutex> lock_;
  sqlite3* connection_;
  bool open_ = false;
};

/// The place of a job's specification.
std::string specification_place(std::int64_t job_id);

}  // namespace holdfast::state
