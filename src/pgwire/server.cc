#include "pgwire/server.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <list>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "net/socket.h"
#include "net/tls.h"
#include "net/wake.h"
#include "pgwire/cancel_registry.h"
#include "pgwire/connection.h"
#include "pgwire/dialer.h"
#include "pgwire/shared_loop.h"

namespace holdfast::pgwire {

namespace {
/// How long sessions may take to say good-bye.
constexpr std::chrono::seconds kGrace{2};
/// Connections above the limit of sessions that are served to be told so, or to cancel a statement.
constexpr std::size_t kReserve = 50;
constexpr std::size_t kMaxLoops = 8;
/// Pause after running out of file descriptors.
constexpr int kExhaustedPauseMs = 100;
}  // namespace

class Server::Impl {
 public:
  Impl(ServerConfig config, Upstream& upstream, sql::StatementRunner& runner)
      : config_(std::move(config)), upstream_(upstream), runner_(runner) {}

  void start();
  void stop();
  std::uint16_t port() const { return port_; }
  std::size_t session_count() const {
    MutexLock lock(mutex_);
    return running_;
  }

 private:
  struct Entry {
    // Shared with the connection and the cancel registry; the last of them frees it.
    std::shared_ptr<SessionHandle> handle = std::make_shared<SessionHandle>();
    bool finished = false;
    std::jthread thread;
  };

  void accept_loop(const std::stop_token& token);
  void accept_one(int listener);
  /// Joins the threads of ended sessions.
  void reap();
  void run_connection(Entry& entry, UniqueFd socket, Admission admission);
  /// One loop for two processors, so that the sessions' threads and PostgreSQL have the others.
  SharedLoop& next_loop() {
    const std::size_t number = loop_turn_.fetch_add(1, std::memory_order_relaxed);
    return *loops_[number % loops_.size()];
  }
  FrontDoor door() {
    return {.config = config_,
            .tls = tls_.get(),
            .upstream = upstream_,
            .dialer = dialer_,
            .runner = runner_,
            .registry = registry_,
            .loop = next_loop()};
  }
  std::string socket_path() const {
    return fmt::format("{}/.s.PGSQL.{}", config_.socket_directory, port_);
  }

  const ServerConfig config_;
  Upstream& upstream_;
  sql::StatementRunner& runner_;
  SocketDialer dialer_;
  CancelRegistry registry_;
  std::unique_ptr<net::TlsServer> tls_;
  std::vector<UniqueFd> listeners_;
  std::uint16_t port_ = 0;
  bool has_socket_file_ = false;
  std::vector<std::unique_ptr<SharedLoop>> loops_;
  std::atomic<std::size_t> loop_turn_ = 0;
  net::Wake wake_;
  mutable Mutex mutex_;
  std::list<Entry> entries_ HF_GUARDED_BY(mutex_);
  std::size_t running_ HF_GUARDED_BY(mutex_) = 0;
  std::jthread acceptor_;
};

void Server::Impl::start() {
  if (!config_.tls_certificate_file.empty()) {
    tls_ = std::make_unique<net::TlsServer>(config_.tls_certificate_file, config_.tls_key_file);
  }
  port_ = config_.port;
  if (!config_.listen_host.empty()) {
    listeners_ = net::listen_tcp(config_.listen_host, config_.port);
    port_ = net::local_port(listeners_.front().get());
  }
  if (!config_.socket_directory.empty()) {
    listeners_.push_back(net::listen_unix(socket_path(), config_.socket_mode));
    has_socket_file_ = true;
  }
  const std::size_t loops =
      std::clamp<std::size_t>(std::thread::hardware_concurrency() / 2, 1, kMaxLoops);
  while (loops_.size() < loops) loops_.push_back(std::make_unique<SharedLoop>());
  acceptor_ = std::jthread([this](const std::stop_token& token) { accept_loop(token); });
  if (!config_.listen_host.empty()) {
    log::info("listening on {}:{}{}", config_.listen_host, port_, tls_ ? " with TLS" : "");
  }
  if (has_socket_file_) log::info("listening on {}", socket_path());
}

void Server::Impl::accept_loop(const std::stop_token& token) {
  const std::stop_callback wake_up(token, [this] { wake_.signal(); });
  std::vector<pollfd> polled{{wake_.fd(), POLLIN, 0}};
  for (const UniqueFd& listener : listeners_) polled.push_back({listener.get(), POLLIN, 0});
  while (!token.stop_requested()) {
    if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR)
      throw_errno("wait for connections");
    wake_.clear();
    reap();
    for (std::size_t i = 1; i < polled.size(); ++i) {
      if (polled[i].revents == 0) continue;
      try {
        accept_one(polled[i].fd);
      } catch (const std::exception& error) {
        log::error("cannot accept connections at the moment: {}", error.what());
        ::poll(polled.data(), 1, kExhaustedPauseMs);
      }
    }
  }
}

void Server::Impl::accept_one(int listener) {
  auto socket = net::accept_connection(listener);
  if (!socket) return;
  MutexLock lock(mutex_);
  if (running_ >= config_.max_sessions + kReserve) return;
  const Admission admission =
      running_ < config_.max_sessions ? Admission::Welcome : Admission::Full;
  Entry& entry = entries_.emplace_back();
  try {
    entry.thread = std::jthread([this, &entry, admission, fd = socket->get()] {
      run_connection(entry, UniqueFd(fd), admission);
    });
  } catch (...) {
    entries_.pop_back();
    throw;
  }
  socket->release();
  ++running_;
}

void Server::Impl::run_connection(Entry& entry, UniqueFd socket, Admission admission) {
  Connection(door(), std::move(socket), entry.handle).serve(admission);
  {
    MutexLock lock(mutex_);
    --running_;
    entry.finished = true;
  }
  wake_.signal();
}

void Server::Impl::reap() {
  std::list<Entry> finished;
  MutexLock lock(mutex_);
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const auto next = std::next(entry);
    if (entry->finished) finished.splice(finished.end(), entries_, entry);
    entry = next;
  }
  lock.unlock();
  finished.clear();  // joins
}

void Server::Impl::stop() {
  if (!acceptor_.joinable()) return;
  acceptor_.request_stop();
  acceptor_.join();
  listeners_.clear();
  if (has_socket_file_) ::unlink(socket_path().c_str());
  has_socket_file_ = false;
  {
    MutexLock lock(mutex_);
    for (const Entry& entry : entries_) entry.handle->end();
  }
  const auto deadline = std::chrono::steady_clock::now() + kGrace;
  while (session_count() > 0 && std::chrono::steady_clock::now() < deadline) {
    pollfd polled{wake_.fd(), POLLIN, 0};
    ::poll(&polled, 1, kExhaustedPauseMs);
    wake_.clear();
  }
  {
    MutexLock lock(mutex_);
    for (const Entry& entry : entries_) entry.handle->abort();
  }
  // The threads end now; entries may not move before, because the threads refer to them.
  for (;;) {
    reap();
    if (session_count() == 0) break;
    pollfd polled{wake_.fd(), POLLIN, 0};
    ::poll(&polled, 1, kExhaustedPauseMs);
    wake_.clear();
  }
  reap();
}

Server::Server(ServerConfig config, Upstream& upstream, sql::StatementRunner& runner)
    : impl_(std::make_unique<Impl>(std::move(config), upstream, runner)) {}
Server::~Server() { stop(); }
void Server::start() { impl_->start(); }
void Server::stop() { impl_->stop(); }
std::uint16_t Server::port() const { return impl_->port(); }
std::size_t Server::session_count() const { return impl_->session_count(); }

}  // namespace holdfast::pgwire
