#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <typeindex>
#include <unordered_map>
#include <vector>

#include "base/stop.h"
#include "sql/row_sink.h"
#include "sql/statement_runner.h"
#include "sql/statements.h"
#include "statements/parse_cache.h"

namespace holdfast::statements {

/// Executes one kind of statement (`S` is a struct of sql/statements.h). Thread-safe: sessions
/// share it. Parameters are bound before it sees the statement. Its rows must have the columns that
/// sql::columns_of() gives for the statement.
template <typename S>
class Handler {
 public:
  virtual ~Handler() = default;
  /// Throws Error, or Stopped when `stop` was requested.
  virtual void run(const S& statement, sql::SessionContext& session, sql::RowSink& sink,
                   const Stop& stop) = 0;
};

/// The StatementRunner of the daemon: finds out what a statement is and hands it to the handler of
/// its kind. A kind without a handler is refused with kFeatureNotSupported.
///
/// Handlers are added before the first session; after that the dispatcher is thread-safe.
class Dispatcher final : public sql::StatementRunner {
 public:
  template <typename S>
  void add(std::unique_ptr<Handler<S>> handler) {
    // Shared only because std::function must be copyable; the map is the one and last owner.
    std::shared_ptr<Handler<S>> owned = std::move(handler);
    handlers_[typeid(S)] = [owned](const sql::Statement& statement, sql::SessionContext& session,
                                   sql::RowSink& sink, const Stop& stop) {
      owned->run(std::get<S>(statement), session, sink, stop);
    };
  }

  sql::StatementKind recognise(std::string_view statement) const override;
  std::vector<sql::Column> describe(std::string_view statement) override;
  std::size_t parameter_count(std::string_view statement) override;
  void run(std::string_view statement, std::span<const sql::Value> parameters,
           sql::SessionContext& session, sql::RowSink& sink, const Stop& stop) override;
  std::string rewrite(std::string_view statement, sql::SessionContext& session,
                      const Stop& stop) override;

 private:
  using Run =
      std::function<void(const sql::Statement&, sql::SessionContext&, sql::RowSink&, const Stop&)>;

  void execute(const sql::Statement& statement, sql::SessionContext& session, sql::RowSink& sink,
               const Stop& stop);

  std::unordered_map<std::type_index, Run> handlers_;
  ParseCache cache_;
};

}  // namespace holdfast::statements
