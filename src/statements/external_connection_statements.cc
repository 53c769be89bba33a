#include "statements/external_connection_statements.h"

#include <fmt/format.h>

#include <vector>

#include "base/error.h"
#include "sql/columns.h"
#include "sql/printer.h"
#include "statements/check_connection.h"
#include "statements/connection_rights.h"
#include "statements/option_checks.h"
#include "statements/privileges.h"
#include "storage/external_uri.h"
#include "storage/uri.h"

namespace holdfast::statements {

namespace {

using sql::Row;

constexpr std::string_view kStorageType = "STORAGE";
constexpr std::string_view kKmsType = "KMS";

/// Every creation writes this object where there is none, so that it never piles up, also where
/// nothing can be deleted.
constexpr std::string_view kProbePrefix = "holdfast_external_storage_location";

/// gs:// with an empty host names a key, as gs:///projects/….
bool names_a_key(const storage::StorageUri& uri) {
  return uri.scheme == "aws" || uri.scheme == "aws-kms" || uri.scheme == "gcp-kms" ||
         uri.scheme == "azure-kms" || (uri.scheme == "gs" && uri.host.empty());
}

/// Throws when the key does not give back what it encrypted, or the URI cannot be right.
void try_out_key(Stores& stores, const std::string& uri, sql::SessionContext& session,
                 const Stop& stop) {
  const auto key = open_kms_for_user(stores, uri, session);
  const std::string_view content = "holdfast";
  if (as_text(key->decrypt(key->encrypt(as_bytes(content), stop), stop)) != content) {
    throw Error(sqlstate::kIoError,
                fmt::format("{} does not give back what it encrypted", key->id()));
  }
}

/// Throws when the storage cannot be written, read and listed, or the URI cannot be right.
void try_out(Stores& stores, const std::string& uri, sql::SessionContext& session,
             const Stop& stop) {
  const storage::StorageUri parsed = storage::parse_uri(uri);
  if (names_a_key(parsed)) return try_out_key(stores, uri, session, stop);
  if (parsed.scheme == storage::kExternalScheme) {
    throw Error(sqlstate::kInvalidParameterValue,
                "an external connection cannot stand for another external connection");
  }
  const std::unique_ptr<storage::ObjectStore> store = open_for_user(stores, uri, session);
  const storage::ObjectKey prefix(kProbePrefix);
  const storage::ObjectKey key = prefix + "/probe";
  const std::string_view content = "holdfast";
  store->put(key, as_bytes(content), storage::PutMode::OnlyIfAbsent, stop);
  const std::optional<Bytes> read = storage::get_whole(*store, key, content.size(), stop);
  if (!read || as_text(*read) != content) {
    throw Error(sqlstate::kIoError,
                fmt::format("{} does not give back what was written to it", store->description()));
  }
  bool listed = false;
  store->list(
      prefix, [&](const storage::ObjectInfo& info) { listed = listed || info.key == key; }, stop);
  if (!listed) {
    throw Error(sqlstate::kIoError,
                fmt::format("{} does not list what was written to it", store->description()));
  }
  try {
    store->remove(key, stop);
  } catch (const Error&) {
    // Storage without the right to delete is good storage.
  }
}

std::string_view type_of(const std::string& uri) {
  return names_a_key(storage::parse_uri(uri)) ? kKmsType : kStorageType;
}

class CreateConnection final : public Handler<sql::CreateExternalConnection> {
 public:
  explicit CreateConnection(ConnectionServices services) : services_(std::move(services)) {}

  void run(const sql::CreateExternalConnection& statement, sql::SessionContext& session,
           sql::RowSink& sink, const Stop& stop) override {
    require_administrator(session, "create external connections");
    const std::string& name = statement.name.value;
    if (name.empty()) {
      throw Error(sqlstate::kInvalidParameterValue, "the name of an external connection is empty");
    }
    if (!services_.connections->find(name)) {
      try_out(*services_.stores, statement.uri.value, session, stop);
      if (services_.connections->create({.name = name,
                                         .uri = own_uri(statement.uri.value, session),
                                         .owner = current_user(session),
                                         .created = services_.clock->now()})) {
        return sink.complete("CREATE EXTERNAL CONNECTION");
      }
    }
    if (!statement.if_not_exists) {
      throw Error(sqlstate::kDuplicateObject,
                  fmt::format("external connection \"{}\" already exists", name));
    }
    sink.notice(
        {.state = sqlstate::kDuplicateObject,
         .message = fmt::format("external connection \"{}\" already exists, skipping", name)});
    sink.complete("CREATE EXTERNAL CONNECTION");
  }

 private:
  const ConnectionServices services_;
};

class AlterConnection final : public Handler<sql::AlterExternalConnection> {
 public:
  explicit AlterConnection(ConnectionServices services) : services_(std::move(services)) {}

  void run(const sql::AlterExternalConnection& statement, sql::SessionContext& session,
           sql::RowSink& sink, const Stop& stop) override {
    const std::string& name = statement.name.value;
    if (statement.if_exists && !services_.connections->find(name)) {
      sink.notice(
          {.message = fmt::format("external connection \"{}\" does not exist, skipping", name)});
      return sink.complete("ALTER EXTERNAL CONNECTION");
    }
    find_connection(*services_.connections, name, session, ConnectionRight::Update);
    try_out(*services_.stores, statement.uri.value, session, stop);
    services_.connections->set_uri(name, own_uri(statement.uri.value, session));
    sink.complete("ALTER EXTERNAL CONNECTION");
  }

 private:
  const ConnectionServices services_;
};

class DropConnection final : public Handler<sql::DropExternalConnection> {
 public:
  explicit DropConnection(ConnectionServices services) : services_(std::move(services)) {}

  void run(const sql::DropExternalConnection& statement, sql::SessionContext& session,
           sql::RowSink& sink, const Stop&) override {
    find_connection(*services_.connections, statement.name.value, session, ConnectionRight::Drop);
    services_.connections->remove(statement.name.value);
    sink.complete("DROP EXTERNAL CONNECTION");
  }

 private:
  const ConnectionServices services_;
};

/// The connection of that name, or all that the user has this right on.
std::vector<state::ExternalConnection> shown(const state::ExternalConnections& connections,
                                             const std::optional<sql::Text>& name,
                                             sql::SessionContext& session, ConnectionRight right) {
  if (name) return {find_connection(connections, name->value, session, right)};
  std::vector<state::ExternalConnection> list = connections.list();
  std::erase_if(list, [&](const auto& connection) {
    return !has_right(connections, session, connection, right);
  });
  return list;
}

class ShowConnections final : public Handler<sql::ShowExternalConnections> {
 public:
  explicit ShowConnections(ConnectionServices services) : services_(std::move(services)) {}

  void run(const sql::ShowExternalConnections& statement, sql::SessionContext& session,
           sql::RowSink& sink, const Stop&) override {
    const auto list = shown(*services_.connections, statement.name, session, ConnectionRight::See);
    sink.columns(sql::columns_of(statement));
    for (const auto& connection : list) {
      sink.row(Row{connection.name, storage::redact_uri(connection.uri),
                   std::string(type_of(connection.uri))});
    }
    sink.complete(fmt::format("SHOW {}", list.size()));
  }

 private:
  const ConnectionServices services_;
};

/// As in CockroachDB, what recreates the connection holds its secrets.
class ShowCreateConnections final : public Handler<sql::ShowCreateExternalConnections> {
 public:
  explicit ShowCreateConnections(ConnectionServices services) : services_(std::move(services)) {}

  void run(const sql::ShowCreateExternalConnections& statement, sql::SessionContext& session,
           sql::RowSink& sink, const Stop&) override {
    const auto list = shown(*services_.connections, statement.name, session, ConnectionRight::Own);
    sink.columns(sql::columns_of(statement));
    for (const auto& connection : list) {
      const sql::CreateExternalConnection create{
          .if_not_exists = false,
          .name = {.value = connection.name, .parameter = {}},
          .uri = {.value = connection.uri, .parameter = {}}};
      sink.row(Row{connection.name, sql::print(create, sql::Redact::Nothing)});
    }
    sink.complete(fmt::format("SHOW {}", list.size()));
  }

 private:
  const ConnectionServices services_;
};

class Grant final : public Handler<sql::GrantOnConnection> {
 public:
  explicit Grant(ConnectionServices services) : services_(std::move(services)) {}

  void run(const sql::GrantOnConnection& statement, sql::SessionContext& session,
           sql::RowSink& sink, const Stop&) override {
    const bool grants = statement.action == sql::GrantOnConnection::Action::Grant;
    // All is checked before anything is changed.
    for (const std::string& name : statement.connections) {
      find_connection(*services_.connections, name, session, ConnectionRight::Own);
    }
    for (const std::string& role : statement.roles) {
      if (grants && role != "public") require_role(session, role);
    }
    each(statement,
         [&](const std::string& name, const std::string& role, const std::string& privilege) {
           if (grants) {
             services_.connections->grant(name, role, privilege);
           } else {
             services_.connections->revoke(name, role, privilege);
           }
         });
    sink.complete(grants ? "GRANT" : "REVOKE");
  }

 private:
  template <typename F>
  static void each(const sql::GrantOnConnection& statement, const F& change) {
    for (const std::string& name : statement.connections) {
      for (const std::string& role : statement.roles) {
        for (const std::string& privilege : statement.privileges) change(name, role, privilege);
      }
    }
  }

  const ConnectionServices services_;
};

class CheckConnection final : public Handler<sql::CheckExternalConnection> {
 public:
  explicit CheckConnection(ConnectionServices services) : services_(std::move(services)) {}

  void run(const sql::CheckExternalConnection& statement, sql::SessionContext& session,
           sql::RowSink& sink, const Stop& stop) override {
    const CheckLimits limits = check_limits(statement.options);
    const std::unique_ptr<storage::ObjectStore> store =
        open_for_user(*services_.stores, statement.uri.value, session);
    const CheckResult result = check_connection(*store, limits, stop);
    sink.columns(sql::columns_of(statement));
    sink.row(Row{services_.node_id, services_.locality, result.error ? "f" : "t",
                 result.error.value_or(""), show_bytes(result.transferred),
                 show_bytes(result.read_bytes_per_second) + "/s",
                 show_bytes(result.write_bytes_per_second) + "/s", result.can_delete ? "t" : "f"});
    sink.complete("CHECK 1");
  }

 private:
  const ConnectionServices services_;
};

}  // namespace

void add_external_connection_statements(Dispatcher& dispatcher,
                                        const ConnectionServices& services) {
  dispatcher.add<sql::CreateExternalConnection>(std::make_unique<CreateConnection>(services));
  dispatcher.add<sql::AlterExternalConnection>(std::make_unique<AlterConnection>(services));
  dispatcher.add<sql::DropExternalConnection>(std::make_unique<DropConnection>(services));
  dispatcher.add<sql::ShowExternalConnections>(std::make_unique<ShowConnections>(services));
  dispatcher.add<sql::ShowCreateExternalConnections>(
      std::make_unique<ShowCreateConnections>(services));
  dispatcher.add<sql::GrantOnConnection>(std::make_unique<Grant>(services));
  dispatcher.add<sql::CheckExternalConnection>(std::make_unique<CheckConnection>(services));
}

}  // namespace holdfast::statements
