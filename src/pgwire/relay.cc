#include "pgwire/relay.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "pgwire/protocol.h"

namespace holdfast::pgwire {

void Relay::connect(BackendConnection backend) {
  server_ = std::move(backend.stream);
  server_input_ = std::move(backend.input);
  transaction_status_ = backend.transaction_status;
  pass_server_bytes();
}

void Relay::flush() {
  if (out_.empty()) return;
  client_.write_all(out_.view());
  out_.clear();
}

void Relay::write_client(ByteView bytes) {
  if (riding_) {
    // What does not fit goes out with our own messages, before anything else.
    const std::size_t sent = out_.empty() ? client_.try_write(bytes) : 0;
    return out_.bytes(bytes.subspan(sent));
  }
  flush();
  if (!bytes.empty()) client_.write_all(bytes);
}

void Relay::drop_server() {
  handle_.set_server(-1);
  server_.reset();
  server_input_ = ReadBuffer();
  server_body_left_ = 0;
  tracker_ = ResponseTracker();
  transaction_status_ = transaction::kIdle;
}

void Relay::server_gone() {
  // PostgreSQL's last words, such as FATAL 57P01, have been passed on.
  flush();
  drop_server();
  throw SessionOver{};
}

void Relay::pass_server_bytes() {
  const ByteView data = server_input_.data();
  std::size_t at = 0;
  std::size_t run = 0;  // everything before `at` from here on goes to the client
  while (at < data.size()) {
    if (server_body_left_ > 0) {
      const std::size_t part = std::min(server_body_left_, data.size() - at);
      at += part;
      server_body_left_ -= part;
      continue;
    }
    if (data.size() - at < kHeaderBytes) break;
    const char type = static_cast<char>(data[at]);
    const std::uint32_t length = read_be32(data.data() + at + 1);
    if (length < 4) throw Error(sqlstate::kProtocolViolation, "invalid message from PostgreSQL");
    const std::size_t size = std::size_t{length} + 1;
    if (type == backend::kDataRow || type == frontend::kCopyData) {
      server_body_left_ = size;
      continue;
    }
    if (type == backend::kReadyForQuery) {
      if (data.size() - at < size) break;
      if (length > 4) transaction_status_ = static_cast<char>(data[at + kHeaderBytes]);
      tracker_.received(type);
      if (swallow_ready_) {
        write_client(data.subspan(run, at - run));
        run = at + size;
      }
      at += size;
      continue;
    }
    if (type == backend::kErrorResponse) saw_error_ = true;
    tracker_.received(type);
    server_body_left_ = size;
  }
  if (at > run) write_client(data.subspan(run, at - run));
  server_input_.consume(at);
}

bool Relay::take_from_server(std::optional<std::size_t> got) {
  if (!got) return true;
  if (*got == 0) return false;
  server_input_.added(*got);
  pass_server_bytes();
  return true;
}

void Relay::take_from_client(std::optional<std::size_t> got) {
  if (!got) return;
  if (*got == 0) throw SessionOver{};
  client_input_.added(*got);
}

void Relay::forward(ByteView messages) {
  while (!messages.empty()) {
    const std::size_t sent = server_->try_write(messages);
    messages = messages.subspan(sent);
    if (sent != 0) continue;
    // PostgreSQL does not read while it writes, so what it writes has to be taken.
    const net::Readiness ready = net::wait_writable_or_readable(*server_);
    if (ready.first && !take_from_server(server_->try_read(server_input_.space()))) server_gone();
  }
}

void Relay::forward_message(const Message& message) {
  tracker_.sent(message.type);
  forward(message.whole);
}

Passenger::Step Relay::read_client_now() {
  const auto got = client_.try_read(client_input_.space());
  if (!got) return Passenger::Step::Stay;
  if (*got == 0) return Passenger::Step::Ended;
  client_input_.added(*got);
  return Passenger::Step::Stay;
}

Passenger::Step Relay::pass_server_now() {
  do {
    const auto got = server_->try_read(server_input_.space());
    if (!got) break;
    if (*got == 0) return Passenger::Step::Ended;
    server_input_.added(*got);
    riding_ = true;
    pass_server_bytes();
    riding_ = false;
    if (!out_.empty()) return Passenger::Step::GetOff;
  } while (server_->buffered());
  return Passenger::Step::Stay;
}

bool Relay::forward_now(ByteView messages) {
  const std::size_t sent = server_->try_write(messages);
  judged_ahead_ = messages.size() - sent;
  client_input_.consume(sent);
  return judged_ahead_ == 0;
}

void Relay::forward_rest() {
  const std::size_t rest = std::exchange(judged_ahead_, 0);
  if (rest == 0) return;
  forward(client_input_.data().first(rest));
  client_input_.consume(rest);
}

void Relay::wait_for_client() {
  flush();
  for (;;) {
    if (server_ == nullptr) {
      const auto got = net::read_before(client_, client_input_.space(), std::nullopt);
      return take_from_client(got);
    }
    // Whoever must speak next is read without a poll first: two system calls fewer for each query.
    // A poll on both follows as soon as that takes longer than a moment.
    if (tracker_.server_speaks() && !tracker_.pipelined()) {
      const auto got = server_->read_soon(server_input_.space());
      if (!take_from_server(got)) server_gone();
      if (got) continue;
    } else if (!tracker_.either_speaks() && !tracker_.server_speaks()) {
      const auto got = client_.read_soon(client_input_.space());
      if (got) return take_from_client(got);
    }
    const net::Readiness ready = net::wait_readable(client_, server_.get(), std::nullopt);
    if (ready.second && !take_from_server(server_->try_read(server_input_.space()))) server_gone();
    if (!ready.first) continue;
    const auto got = client_.try_read(client_input_.space());
    if (got) return take_from_client(got);
  }
}

void Relay::settle() {
  if (server_ == nullptr || tracker_.settled()) return;
  if (tracker_.batch_open()) {
    MessageWriter message;
    write_empty(message, frontend::kFlush);
    tracker_.sent(frontend::kFlush);
    forward(message.view());
  }
  while (!tracker_.settled() && !tracker_.copy_in()) {
    const auto got = net::read_before(*server_, server_input_.space(), std::nullopt);
    if (!take_from_server(got)) server_gone();
  }
}

void Relay::pass_copy_data() {
  const ByteView data = client_input_.data();
  std::size_t at = 0;
  while (at < data.size()) {
    if (copy_body_left_ > 0) {
      const std::size_t part = std::min(copy_body_left_, data.size() - at);
      at += part;
      copy_body_left_ -= part;
      continue;
    }
    if (!tracker_.copy_in()) break;
    const auto size = message_size(data.subspan(at), kMaxMessageBytes);
    if (!size) break;
    tracker_.sent(static_cast<char>(data[at]));
    copy_body_left_ = *size;
  }
  forward(data.first(at));
  client_input_.consume(at);
}

bool Relay::run_query(std::string_view text) {
  MessageWriter message;
  write_query(message, text);
  tracker_.sent(frontend::kQuery);
  saw_error_ = false;
  swallow_ready_ = true;
  forward(message.view());
  while (!tracker_.idle()) {
    if (tracker_.copy_in() || copy_body_left_ > 0) {
      pass_copy_data();
      if (!tracker_.copy_in() && copy_body_left_ == 0) continue;
      flush();
      const net::Readiness ready = net::wait_readable(client_, server_.get(), std::nullopt);
      if (ready.second && !take_from_server(server_->try_read(server_input_.space())))
        server_gone();
      if (ready.first) take_from_client(client_.try_read(client_input_.space()));
      continue;
    }
    const auto got = net::read_before(*server_, server_input_.space(), std::nullopt);
    if (!take_from_server(got)) server_gone();
  }
  swallow_ready_ = false;
  return !saw_error_;
}

}  // namespace holdfast::pgwire
