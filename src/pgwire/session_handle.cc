#include "pgwire/session_handle.h"

#include "net/socket.h"

namespace holdfast::pgwire {

void SessionHandle::set_client(int fd) {
  MutexLock lock(mutex_);
  client_fd_ = fd;
  if (ending_ && fd >= 0) net::interrupt_reads(fd);
}

void SessionHandle::set_server(int fd) {
  MutexLock lock(mutex_);
  server_fd_ = fd;
  if (ending_ && fd >= 0) net::interrupt_reads(fd);
}

Stop SessionHandle::begin_statement() {
  MutexLock lock(mutex_);
  statement_.emplace();
  Stop stop = statement_->stop();
  if (ending_) statement_->request(StopReason::Shutdown);
  return stop;
}

void SessionHandle::end_statement() {
  MutexLock lock(mutex_);
  statement_.reset();
  querying_ = false;
}

void SessionHandle::begin_query() {
  MutexLock lock(mutex_);
  querying_ = true;
}

void SessionHandle::end_query() {
  MutexLock lock(mutex_);
  querying_ = false;
}

bool SessionHandle::cancel() {
  std::optional<StopSource> statement;
  bool forward = false;
  {
    MutexLock lock(mutex_);
    statement = statement_;
    forward = !statement_ || querying_;
  }
  // Outside the lock: a stop callback may do anything.
  if (statement) statement->request(StopReason::Cancel);
  return forward;
}

void SessionHandle::client_left() {
  std::optional<StopSource> statement;
  {
    MutexLock lock(mutex_);
    statement = statement_;
  }
  // Not Cancel: that would cancel the job that the statement waits for.
  if (statement) statement->request(StopReason::Shutdown);
}

void SessionHandle::end() {
  std::optional<StopSource> statement;
  {
    MutexLock lock(mutex_);
    ending_ = true;
    statement = statement_;
    if (client_fd_ >= 0) net::interrupt_reads(client_fd_);
    if (server_fd_ >= 0) net::interrupt_reads(server_fd_);
  }
  if (statement) statement->request(StopReason::Shutdown);
}

void SessionHandle::abort() {
  MutexLock lock(mutex_);
  if (client_fd_ >= 0) net::interrupt(client_fd_);
  if (server_fd_ >= 0) net::interrupt(server_fd_);
}

bool SessionHandle::ending() const {
  MutexLock lock(mutex_);
  return ending_;
}

}  // namespace holdfast::pgwire
