#pragma once

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "base/unique_fd.h"
#include "net/socket.h"

namespace holdfast::net {

/// What a test's server sends for one request, byte for byte, and what becomes of the connection.
struct RawAnswer {
  enum class Then { Keep, Close, Reset, Stall };
  std::string bytes;
  Then then = Then::Keep;
};

inline std::string http_answer(std::string_view status, std::string_view body,
                               std::string_view headers = "") {
  return fmt::format("HTTP/1.1 {}\r\nContent-Length: {}\r\n{}\r\n{}", status, body.size(), headers,
                     body);
}

/// A server on the loopback interface for tests of clients: one thread for each connection.
class RawHttpServer {
 public:
  /// `handle` gets the whole request, head and body.
  explicit RawHttpServer(std::function<RawAnswer(const std::string&)> handle)
      : handle_(std::move(handle)), listener_(std::move(listen_tcp("127.0.0.1", 0).front())) {
    acceptor_ = std::jthread([this](const std::stop_token& stop) { accept_all(stop); });
  }
  ~RawHttpServer() {
    acceptor_.request_stop();
    acceptor_.join();
    connections_.clear();
  }
  RawHttpServer(const RawHttpServer&) = delete;
  RawHttpServer& operator=(const RawHttpServer&) = delete;

  std::string url(std::string_view path = "/") const {
    return fmt::format("http://127.0.0.1:{}{}", local_port(listener_.get()), path);
  }
  int connections() const { return accepted_; }
  std::vector<std::string> requests() {
    const MutexLock lock(mutex_);
    return requests_;
  }

 private:
  static bool readable(int fd) {
    pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
    return ::poll(&entry, 1, 20) > 0;
  }

  void accept_all(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      if (!readable(listener_.get())) continue;
      std::optional<UniqueFd> socket = accept_connection(listener_.get());
      if (!socket) continue;
      ++accepted_;
      connections_.emplace_back([this, fd = std::move(*socket)](const std::stop_token& ended) {
        while (!ended.stop_requested() && answer_one(fd.get(), ended)) {
        }
      });
    }
  }

  bool answer_one(int fd, const std::stop_token& stop) {
    std::string request;
    while (!whole(request)) {
      if (stop.stop_requested()) return false;
      if (!readable(fd)) continue;
      char buffer[65536];
      const ssize_t got = ::recv(fd, buffer, sizeof buffer, 0);
      if (got <= 0) return false;
      request.append(buffer, static_cast<std::size_t>(got));
    }
    {
      const MutexLock lock(mutex_);
      requests_.push_back(request);
    }
    const RawAnswer answer = handle_(request);
    std::string_view left = answer.bytes;
    while (!left.empty()) {
      const ssize_t sent = ::send(fd, left.data(), left.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      left.remove_prefix(static_cast<std::size_t>(sent));
    }
    if (answer.then == RawAnswer::Then::Stall) {
      while (!stop.stop_requested()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    if (answer.then == RawAnswer::Then::Reset) {
      const linger now{.l_onoff = 1, .l_linger = 0};
      ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    if (answer.then != RawAnswer::Then::Keep) ::shutdown(fd, SHUT_RDWR);
    return answer.then == RawAnswer::Then::Keep;
  }

  static bool whole(const std::string& request) {
    const std::size_t end = request.find("\r\n\r\n");
    if (end == std::string::npos) return false;
    const std::size_t length = request.find("Content-Length: ");
    const std::size_t body =
        length < end ? std::strtoull(request.c_str() + length + 16, nullptr, 10) : 0;
    return request.size() >= end + 4 + body;
  }

  const std::function<RawAnswer(const std::string&)> handle_;
  const UniqueFd listener_;
  std::atomic<int> accepted_ = 0;
  Mutex mutex_;
  std::vector<std::string> requests_ HF_GUARDED_BY(mutex_);
  // Only the acceptor's thread adds to these; they are joined after it.
  std::vector<std::jthread> connections_;
  std::jthread acceptor_;
};

}  // namespace holdfast::net
