#include "console/http_server.h"

#include <fmt/format.h>
#include <httplib.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <exception>
#include <thread>

#include "base/error.h"
#include "base/log.h"

namespace holdfast::console {

namespace {

using SteadyClock = std::chrono::steady_clock;

/// How often a wait for a client looks whether the server is to end.
constexpr std::chrono::milliseconds kStopSlice{100};
/// A request is a line and a few headers.
constexpr std::size_t kLongestRequest = 32U << 10;
/// Connections that wait for a thread. More are closed at once.
constexpr std::size_t kMostWaiting = 64;
constexpr std::size_t kThreads = 4;

/// A connection that waited for a thread so long that its time is over still has this part of it: a
/// client that is not slow has sent its request by then.
constexpr int kGracePart = 20;

/// Until when the connection that this thread works on must be done. Its time begins when it is
/// accepted, so that slow clients that came together are all gone together.
thread_local SteadyClock::time_point connection_deadline;
/// Set around a connection that there is no room for.
thread_local bool connection_refused = false;

/// A connection on which all reading and writing together ends at a deadline, however the client
/// drips its bytes: the library's own timeouts begin anew with each byte.
class DeadlineStream final : public httplib::Stream {
 public:
  DeadlineStream(socket_t socket, SteadyClock::time_point deadline, const std::atomic<bool>& ends)
      : socket_(socket), deadline_(deadline), ends_(ends) {}

  bool is_readable() const override { return wait(POLLIN); }
  bool is_writable() const override { return wait(POLLOUT); }

  ssize_t read(char* into, size_t size) override {
    size = std::min(size, kLongestRequest - received_);
    if (size == 0 || !wait(POLLIN)) return -1;
    const ssize_t got = ::recv(socket_, into, size, 0);
    if (got > 0) received_ += static_cast<std::size_t>(got);
    return got;
  }
  ssize_t write(const char* from, size_t size) override {
    if (!wait(POLLOUT)) return -1;
    return ::send(socket_, from, size, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  void get_remote_ip_and_port(std::string& ip, int& port) const override { unknown(ip, port); }
  void get_local_ip_and_port(std::string& ip, int& port) const override { unknown(ip, port); }
  socket_t socket() const override { return socket_; }

 private:
  /// No page says who asked.
  static void unknown(std::string& ip, int& port) {
    ip.clear();
    port = 0;
  }

  bool wait(short what) const {
    while (!ends_) {
      const auto left =
          std::chrono::ceil<std::chrono::milliseconds>(deadline_ - SteadyClock::now());
      if (left.count() <= 0) return false;
      pollfd waited{.fd = socket_, .events = what, .revents = 0};
      const int ready = ::poll(&waited, 1, static_cast<int>(std::min(left, kStopSlice).count()));
      if (ready > 0) return true;
      if (ready < 0 && errno != EINTR) return false;
    }
    return false;
  }

  const socket_t socket_;
  const SteadyClock::time_point deadline_;
  const std::atomic<bool>& ends_;
  std::size_t received_ = 0;
};

/// A few threads, and a bound on what waits for them.
class BoundedPool final : public httplib::TaskQueue {
 public:
  explicit BoundedPool(std::chrono::milliseconds longest) : longest_(longest) {}

  void enqueue(std::function<void()> serve) override {
    if (waiting_ >= kMostWaiting) {
      connection_refused = true;
      serve();
      connection_refused = false;
      return;
    }
    ++waiting_;
    pool_.enqueue([this, serve = std::move(serve), deadline = SteadyClock::now() + longest_] {
      --waiting_;
      connection_deadline = std::max(deadline, SteadyClock::now() + longest_ / kGracePart);
      serve();
    });
  }
  void shutdown() override { pool_.shutdown(); }

 private:
  const std::chrono::milliseconds longest_;
  std::atomic<std::size_t> waiting_ = 0;
  httplib::ThreadPool pool_{kThreads};
};

class BoundedServer final : public httplib::Server {
 public:
  std::atomic<bool> ends = false;

 private:
  /// Serves one request: a scrape comes every few seconds, so a kept connection gains nothing.
  bool process_and_close_socket(socket_t socket) override {
    bool served = false;
    if (!connection_refused) {
      DeadlineStream stream(socket, connection_deadline, ends);
      bool closed = false;
      served = process_request(stream, true, closed, nullptr);
    }
    ::shutdown(socket, SHUT_RDWR);
    ::close(socket);
    return served;
  }
};

}  // namespace

struct HttpServer::State {
  BoundedServer server;
  HttpPages pages;
  int port = 0;
  std::thread thread;
};

HttpServer::HttpServer(const HttpAddress& address, HttpPages pages)
    : state_(std::make_unique<State>()) {
  state_->pages = std::move(pages);
  httplib::Server& server = state_->server;
  server.new_task_queue = [longest = address.longest_request] { return new BoundedPool(longest); };
  server.set_payload_max_length(0);
  // The library's default is SO_REUSEPORT, with which two daemons would share a port unnoticed.
  server.set_socket_options([](socket_t socket) {
    int on = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  });
  server.Get("/health", [this](const httplib::Request&, httplib::Response& response) {
    HttpPages::Health health = state_->pages.health();
    response.status = health.healthy ? 200 : 503;
    response.set_content(health.json, "application/json");
  });
  server.Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
    response.set_content(state_->pages.metrics(), "text/plain; version=0.0.4; charset=utf-8");
  });
  server.set_exception_handler(
      [](const httplib::Request& request, httplib::Response& response, std::exception_ptr error) {
        try {
          std::rethrow_exception(error);
        } catch (const std::exception& e) {
          log::error("could not answer HTTP request for {}: {}", request.path, e.what());
        }
        response.status = 500;
      });

  if (address.port == 0) {
    state_->port = server.bind_to_any_port(address.host);
  } else {
    state_->port = server.bind_to_port(address.host, address.port) ? address.port : -1;
  }
  if (state_->port <= 0) {
    throw Error(sqlstate::kConfigFileError,
                fmt::format("could not listen for HTTP on {}:{}", address.host, address.port))
        .hint(
            "Another program may use the port; choose another address with --http, or switch it "
            "off with --http none.");
  }
  state_->thread = std::thread([this] { state_->server.listen_after_bind(); });
  // stop() of a server that does not listen yet would be lost.
  while (!server.is_running()) std::this_thread::yield();
}

HttpServer::~HttpServer() {
  state_->server.ends = true;
  state_->server.stop();
  state_->thread.join();
}

std::uint16_t HttpServer::port() const { return static_cast<std::uint16_t>(state_->port); }

}  // namespace holdfast::console
