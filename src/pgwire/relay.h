#pragma once

#include <functional>
#include <optional>
#include <string_view>

#include "net/stream.h"
#include "pgwire/login.h"
#include "pgwire/message.h"
#include "pgwire/message_writer.h"
#include "pgwire/read_buffer.h"
#include "pgwire/response_tracker.h"
#include "pgwire/session_handle.h"
#include "pgwire/shared_loop.h"
#include "sql/row_sink.h"

namespace holdfast::pgwire {

/// Thrown when the session cannot go on because one side has gone; the other has been told what
/// there was to tell. Not a std::exception: it is no failure.
struct SessionOver {};

/// Moves bytes between a client and its PostgreSQL connection without a copy: each side has one
/// buffer, messages are told apart by their headers only, and whole runs of them are sent at once.
class Relay {
 public:
  Relay(net::Stream& client, ReadBuffer& client_input, SessionHandle& handle)
      : client_(client), client_input_(client_input), handle_(handle) {}
  ~Relay() { handle_.set_server(-1); }
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  void connect(BackendConnection backend);
  bool has_server() const { return server_ != nullptr; }
  char transaction_status() const { return transaction_status_; }
  ResponseTracker& tracker() { return tracker_; }
  ReadBuffer& client_input() { return client_input_; }

  /// Messages of our own to the client. They leave before anything that PostgreSQL sends later,
  /// and before the next wait.
  MessageWriter& out() { return out_; }
  void flush();

  /// Sends whole or partial messages to PostgreSQL; the tracker has been told. While PostgreSQL
  /// does not take them, what it sends is passed on, so that neither waits for the other forever.
  void forward(ByteView messages);
  /// Tells the tracker, then forwards.
  void forward_message(const Message& message);

  /// The steps of a session that rides on a SharedLoop: what can be done without waiting.
  /// forward_now() returns false when PostgreSQL did not take everything: the rest is sent by the
  /// next forward_rest().
  Passenger::Step read_client_now();
  Passenger::Step pass_server_now();
  bool forward_now(ByteView messages);
  /// Sends what forward_now() left at the start of the client's input.
  void forward_rest();
  int server_fd() const { return server_->fd(); }

  /// Waits until the client has sent something, passing on what PostgreSQL sends. Throws
  /// SessionOver.
  void wait_for_client();
  /// Passes on what PostgreSQL still owes for the messages so far. Returns early when PostgreSQL
  /// waits for COPY data. Throws SessionOver.
  void settle();
  /// Sends a Query and passes its answer on but for the ReadyForQuery, and the client's COPY data
  /// to PostgreSQL. False when the answer was an error. Throws SessionOver.
  bool run_query(std::string_view text);

  /// Runs one query on the side, unseen by the client, without disturbing its unnamed statement.
  /// Throws the server's error, or kCannotConnectNow when the connection has gone.
  sql::QueryResult query(std::string_view text);
  /// Puts the transaction block, or the open batch, into the failed state, as an error of
  /// PostgreSQL's own would have done.
  void fail_transaction();
  /// Looks whether PostgreSQL has closed the connection, and if so forgets it. Its parting words
  /// are not passed on: the client is about to get the result of a statement of ours.
  void check_server();

 private:
  /// False when the connection ended.
  bool take_from_server(std::optional<std::size_t> got);
  void pass_server_bytes();
  void take_from_client(std::optional<std::size_t> got);
  void pass_copy_data();
  void write_client(ByteView bytes);
  [[noreturn]] void server_gone();
  void drop_server();
  /// Hands messages of the server to `visit`, whole, until it returns false. Notifications and
  /// parameter changes go to the client instead.
  void read_unseen(const std::function<bool(const Message&)>& visit);
  bool pass_asynchronous(const Message& message);

  net::Stream& client_;
  ReadBuffer& client_input_;
  SessionHandle& handle_;
  std::unique_ptr<net::Stream> server_;
  ReadBuffer server_input_;
  ResponseTracker tracker_;
  MessageWriter out_;
  std::size_t server_body_left_ = 0;  ///< of a message whose start was passed on
  std::size_t copy_body_left_ = 0;    ///< the same for the client's COPY data
  char transaction_status_ = transaction::kIdle;
  std::size_t judged_ahead_ = 0;  ///< of the client's input, yet to be forwarded
  bool riding_ = false;           ///< on a SharedLoop: writes to the client do not wait
  bool swallow_ready_ = false;
  bool saw_error_ = false;
};

}  // namespace holdfast::pgwire
