#include "daemon/userfile_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "base/mutex.h"
#include "storage/keys.h"

namespace holdfast::daemon {

namespace {

using postgres::Connection;
using postgres::Parameters;
using postgres::QueryResult;
using postgres::quote_identifier;
using storage::ObjectInfo;
using storage::ObjectKey;
using storage::PutMode;
using storage::PutResult;

/// As in CockroachDB: what one row of the payload holds.
constexpr std::size_t kChunkBytes = 4U << 20;

/// Of two that make the same tables at once, one waits.
constexpr std::string_view kCreationLock = "5284391765014";

enum class Locking { Read, Write };

std::uint64_t number_of(const std::string& digits) {
  std::uint64_t number = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), number);
  return number;
}

std::string hex_literal(ByteView bytes) { return "\\x" + to_hex(bytes); }

class UserfileStore : public storage::ObjectStore {
 public:
  UserfileStore(storage::UserfilePlace place, UserfileServer server)
      : place_(std::move(place)),
        server_(std::move(server)),
        start_(place_.path.empty() ? "" : place_.path + "/"),
        files_(qualified(place_.files_table())),
        payload_(qualified(place_.payload_table())) {}

  PutResult put(const ObjectKey& key, ByteView bytes, PutMode mode, const Stop& stop) override {
    stop.check();
    storage::check_key(key);
    storage::check_size(key, bytes);
    return with_connection(stop, [&](Connection& connection) {
      if (!begin(connection, Locking::Write, stop)) {
        run(connection, "ROLLBACK", stop);
        create_tables(connection, stop);
        if (!begin(connection, Locking::Write, stop)) throw gone();
      }
      if (mode == PutMode::Overwrite) remove_file(connection, start_ + key, stop);
      const QueryResult made =
          run(connection,
              fmt::format("INSERT INTO {} (filename, file_size, username) VALUES ($1, $2, "
                          "current_user) ON CONFLICT (filename) DO NOTHING RETURNING file_id",
                          files_),
              {start_ + key, std::to_string(bytes.size())}, stop);
      if (made.rows() == 0) {
        run(connection, "ROLLBACK", stop);
        return PutResult::Taken;
      }
      put_payload(connection, made.text(0, 0), bytes, stop);
      run(connection, "COMMIT", stop);
      return PutResult::Stored;
    });
  }

  bool get_into(const ObjectKey& key, std::uint64_t offset, MutableByteView into,
                const Stop& stop) override {
    stop.check();
    storage::check_key(key);
    const std::uint64_t end = offset + into.size();
    // One statement, so that an object that is replaced meanwhile is the old one or the new one.
    const auto rows =
        read(fmt::format("SELECT f.file_size, p.byte_offset, substring(p.payload FROM "
                         "(greatest($2::bigint - p.byte_offset, 0) + 1)::integer FOR "
                         "least($3::bigint - p.byte_offset, {2})::integer - "
                         "greatest($2::bigint - p.byte_offset, 0)::integer) "
                         "FROM {0} AS f LEFT JOIN {1} AS p ON p.file_id = f.file_id "
                         "AND p.byte_offset < $3::bigint "
                         "AND p.byte_offset + octet_length(p.payload) > $2::bigint "
                         "WHERE f.filename = $1::text ORDER BY p.byte_offset",
                         files_, payload_, storage::kMaxObjectBytes),
             {start_ + key, std::to_string(std::min<std::uint64_t>(offset, kLargestNumber)),
              std::to_string(std::min<std::uint64_t>(end, kLargestNumber))},
             stop);
    if (!rows || rows->rows() == 0) return false;
    const std::uint64_t size = number_of(rows->text(0, 0));
    if (offset > size || into.size() > size - offset) {
      throw storage::too_short(key, offset, into.size());
    }
    std::uint64_t filled = 0;
    for (std::size_t row = 0; filled < into.size() && row < rows->rows(); ++row) {
      if (!rows->value(row, 2)) break;
      const std::uint64_t at = std::max(number_of(rows->text(row, 1)), offset) - offset;
      const auto part = from_hex(std::string_view(rows->text(row, 2)).substr(2));
      if (at != filled || !part || part->size() > into.size() - filled) break;
      std::ranges::copy(*part, into.begin() + static_cast<std::ptrdiff_t>(filled));
      filled += part->size();
    }
    if (filled == into.size()) return true;
    throw Error(sqlstate::kDataCorrupted, fmt::format("object \"{}\" is not whole", key))
        .detail(fmt::format("Rows are missing in {}.", payload_));
  }

  std::optional<ObjectInfo> stat(const ObjectKey& key, const Stop& stop) override {
    stop.check();
    storage::check_key(key);
    const auto rows = read(fmt::format("SELECT file_size FROM {} WHERE filename = $1", files_),
                           {start_ + key}, stop);
    if (!rows || rows->rows() == 0) return std::nullopt;
    return ObjectInfo{.key = key, .size = number_of(rows->text(0, 0))};
  }

  void list(const ObjectKey& prefix, const std::function<void(const ObjectInfo&)>& visit,
            const Stop& stop) override {
    stop.check();
    storage::check_prefix(prefix);
    const auto rows = read(
        fmt::format("SELECT filename, file_size FROM {} WHERE starts_with(filename, $1)", files_),
        {full_prefix(prefix)}, stop);
    for (std::size_t row = 0; rows && row < rows->rows(); ++row) {
      visit(
          {.key = rows->text(row, 0).substr(start_.size()), .size = number_of(rows->text(row, 1))});
    }
  }

  std::vector<std::string> list_directories(const ObjectKey& prefix, const Stop& stop) override {
    stop.check();
    storage::check_prefix(prefix);
    const auto rows = read(fmt::format("SELECT DISTINCT split_part(rest, '/', 1) FROM (SELECT "
                                       "substr(filename, length($1::text) + 1) AS rest FROM {} "
                                       "WHERE starts_with(filename, $1::text)) AS below "
                                       "WHERE strpos(rest, '/') > 0",
                                       files_),
                           {full_prefix(prefix)}, stop);
    std::vector<std::string> names;
    for (std::size_t row = 0; rows && row < rows->rows(); ++row) {
      names.push_back(rows->text(row, 0));
    }
    std::ranges::sort(names);
    return names;
  }

  void remove(const ObjectKey& key, const Stop& stop) override {
    stop.check();
    storage::check_key(key);
    with_connection(stop, [&](Connection& connection) {
      if (begin(connection, Locking::Write, stop)) remove_file(connection, start_ + key, stop);
      run(connection, "COMMIT", stop);
      return true;
    });
  }

  std::string description() const override { return place_.uri(); }

 private:
  static constexpr std::uint64_t kLargestNumber = std::numeric_limits<std::int64_t>::max();

  std::string qualified(const std::string& table) const {
    return fmt::format("{}.{}", quote_identifier(place_.schema), quote_identifier(table));
  }
  std::string full_prefix(const ObjectKey& prefix) const {
    return prefix.empty() ? start_ : start_ + prefix + "/";
  }

  Error gone() const {
    return Error(sqlstate::kUndefinedTable, fmt::format("table {} has gone", files_));
  }

  QueryResult run(Connection& connection, const std::string& statement,
                  const Parameters& parameters, const Stop& stop) const {
    if (server_.echo) server_.echo(statement);
    return connection.query(statement, parameters, stop);
  }
  QueryResult run(Connection& connection, const std::string& statement, const Stop& stop) const {
    return run(connection, statement, {}, stop);
  }

  /// Gives `call` a connection that nobody else uses. After a failure it is closed, which ends its
  /// transaction.
  template <typename Call>
  std::invoke_result_t<Call, Connection&> with_connection(const Stop& stop, const Call& call) {
    std::unique_ptr<Connection> connection;
    {
      const MutexLock lock(mutex_);
      if (!idle_.empty()) {
        connection = std::move(idle_.back());
        idle_.pop_back();
      }
    }
    const bool kept = connection != nullptr;
    try {
      if (!connection || !connection->healthy()) connection = connect(stop);
      auto result = call(*connection);
      const MutexLock lock(mutex_);
      idle_.push_back(std::move(connection));
      return result;
    } catch (Error& error) {
      // The server may have been restarted since the connection was used last.
      if (kept && !connection->healthy()) error.retry(Retry::Safe);
      throw;
    }
  }

  std::unique_ptr<Connection> connect(const Stop& stop) const {
    postgres::ConnectOptions options = server_.connect();
    options.database = place_.database;
    // A database's owner can make settings for all its sessions, the role among them.
    options.settings["role"] = "none";
    options.settings["default_transaction_read_only"] = "off";
    options.settings["client_encoding"] = "UTF8";
    options.settings["bytea_output"] = "hex";
    options.settings["row_security"] = "off";
    // What put() has stored is durable, whatever the server does for others' commits. Durable here
    // is enough: no standby is waited for.
    options.settings["synchronous_commit"] = "local";
    return std::make_unique<Connection>(Connection::open(options, stop));
  }

  /// Begins a transaction in which nobody can change what the tables are. False when there are
  /// none; the transaction has failed then.
  bool begin(Connection& connection, Locking locking, const Stop& stop) const {
    run(connection, "BEGIN", stop);
    try {
      run(connection,
          fmt::format("LOCK TABLE {}, {} IN {} MODE", files_, payload_,
                      locking == Locking::Write ? "ROW EXCLUSIVE" : "ACCESS SHARE"),
          stop);
    } catch (const Error& error) {
      if (error.state() == sqlstate::kUndefinedTable || error.state() == kInvalidSchemaName) {
        return false;
      }
      throw;
    }
    require_plain(connection, stop);
    return true;
  }

  void require_plain(Connection& connection, const Stop& stop) const {
    const QueryResult tables =
        run(connection,
            "SELECT c.relname FROM pg_catalog.pg_class AS c "
            "JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
            "JOIN pg_catalog.pg_roles AS r ON r.oid = c.relowner "
            "WHERE n.nspname = $1 AND c.relname IN ($2, $3) AND c.relkind = 'r' "
            "AND (r.rolsuper OR r.rolname = current_user)",
            {place_.schema, place_.files_table(), place_.payload_table()}, stop);
    if (tables.rows() == 2) return;
    throw Error(sqlstate::kInsufficientPrivilege,
                fmt::format("cannot use {} and {} as userfile tables", files_, payload_))
        .detail("They must be plain tables that belong to a superuser, or to the user that asks.")
        .hint("Name other tables: userfile://database.schema.prefix/path.");
  }

  /// A read in a transaction of its own; absent when there are no tables.
  std::optional<QueryResult> read(const std::string& statement, const Parameters& parameters,
                                  const Stop& stop) {
    return with_connection(stop, [&](Connection& connection) -> std::optional<QueryResult> {
      if (!begin(connection, Locking::Read, stop)) {
        run(connection, "ROLLBACK", stop);
        return std::nullopt;
      }
      QueryResult result = run(connection, statement, parameters, stop);
      run(connection, "COMMIT", stop);
      return result;
    });
  }

  void create_tables(Connection& connection, const Stop& stop) const {
    run(connection, "BEGIN", stop);
    run(connection, fmt::format("SELECT pg_catalog.pg_advisory_xact_lock({})", kCreationLock),
        stop);
    run(connection,
        fmt::format("CREATE TABLE IF NOT EXISTS {} (filename pg_catalog.text PRIMARY KEY, "
                    "file_id pg_catalog.uuid UNIQUE DEFAULT pg_catalog.gen_random_uuid(), "
                    "file_size pg_catalog.int8 NOT NULL, username pg_catalog.text NOT NULL, "
                    "upload_time pg_catalog.timestamp DEFAULT pg_catalog.now())",
                    files_),
        stop);
    run(connection,
        fmt::format("CREATE TABLE IF NOT EXISTS {} (file_id pg_catalog.uuid, "
                    "byte_offset pg_catalog.int8, payload pg_catalog.bytea, "
                    "PRIMARY KEY (file_id, byte_offset))",
                    payload_),
        stop);
    // What is stored is compressed already, and parts of it are read.
    run(connection,
        fmt::format("ALTER TABLE {} ALTER COLUMN payload SET STORAGE EXTERNAL", payload_), stop);
    run(connection, fmt::format("REVOKE ALL ON {}, {} FROM PUBLIC", files_, payload_), stop);
    run(connection, "COMMIT", stop);
  }

  void put_payload(Connection& connection, const std::string& id, ByteView bytes,
                   const Stop& stop) const {
    const std::string statement = fmt::format("INSERT INTO {} VALUES ($1, $2, $3)", payload_);
    for (std::size_t at = 0; at < bytes.size(); at += kChunkBytes) {
      const ByteView chunk = bytes.subspan(at, std::min(kChunkBytes, bytes.size() - at));
      run(connection, statement, {id, std::to_string(at), hex_literal(chunk)}, stop);
    }
  }

  void remove_file(Connection& connection, const std::string& name, const Stop& stop) const {
    run(connection,
        fmt::format("DELETE FROM {} WHERE file_id = (SELECT file_id FROM {} WHERE filename = $1)",
                    payload_, files_),
        {name}, stop);
    run(connection, fmt::format("DELETE FROM {} WHERE filename = $1", files_), {name}, stop);
  }

  static constexpr SqlState kInvalidSchemaName{"3F000"};

  const storage::UserfilePlace place_;
  const UserfileServer server_;
  const std::string start_;  ///< of the names of all objects
  const std::string files_;
  const std::string payload_;
  Mutex mutex_;
  std::vector<std::unique_ptr<Connection>> idle_ HF_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<storage::ObjectStore> open_userfile_store(storage::UserfilePlace place,
                                                          UserfileServer server) {
  return std::make_unique<UserfileStore>(std::move(place), std::move(server));
}

}  // namespace holdfast::daemon
