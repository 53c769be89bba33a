#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "pgwire/message_writer.h"
#include "pgwire/own_statements.h"
#include "pgwire/relay.h"
#include "pgwire/session_handle.h"
#include "sql/row_sink.h"

namespace holdfast::pgwire {

/// Sends what a statement of ours says to the client. A job's threads may call notice() while the
/// statement waits, hence the lock. A client that has gone cancels the statement instead of failing
/// it.
class ResultSink : public sql::RowSink {
 public:
  enum class Columns { Describe, Omit };

  /// For a Query (Describe) or an unlimited Execute (Omit). `formats` as in a Bind message.
  ResultSink(Relay& relay, SessionHandle& handle, Columns mode,
             std::span<const std::uint16_t> formats);
  /// For a limited Execute: rows and tag are kept in the portal.
  ResultSink(Relay& relay, SessionHandle& handle, OwnPortal& portal);

  void columns(std::span<const sql::Column> columns) override;
  void row(std::span<const sql::Value> values) override;
  void notice(const sql::Notice& notice) override;
  void complete(std::string_view tag) override;

 private:
  void flush() HF_REQUIRES(mutex_);

  Relay& relay_;
  SessionHandle& handle_;
  const Columns mode_;
  const std::span<const std::uint16_t> formats_;
  OwnPortal* const portal_ = nullptr;
  Mutex mutex_;
  std::vector<sql::Column> columns_ HF_GUARDED_BY(mutex_);
  bool client_gone_ HF_GUARDED_BY(mutex_) = false;
};

}  // namespace holdfast::pgwire
