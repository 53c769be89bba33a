#include "net/stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace holdfast::net {

namespace {

[[noreturn]] void throw_connection_failure(std::string_view action) {
  const int error_number = errno;
  throw Error(
      sqlstate::kConnectionFailure,
      std::string("could not ").append(action).append(": ").append(std::strerror(error_number)));
}

int milliseconds_until(Deadline deadline) {
  if (!deadline) return -1;
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(*deadline - std::chrono::steady_clock::now());
  return left.count() < 0 ? 0 : static_cast<int>(left.count());
}

void poll_all(std::span<pollfd> polled, Deadline deadline) {
  for (;;) {
    const int ready = ::poll(polled.data(), polled.size(), milliseconds_until(deadline));
    if (ready >= 0) return;
    if (errno != EINTR) throw_errno("wait for a connection");
  }
}

}  // namespace

Readiness wait_readable(const Stream& first, const Stream* second, Deadline deadline) {
  Readiness ready{.first = first.buffered(), .second = second != nullptr && second->buffered()};
  if (ready.first || ready.second) return ready;
  std::array<pollfd, 2> polled{pollfd{first.fd(), POLLIN, 0},
                               pollfd{second == nullptr ? -1 : second->fd(), POLLIN, 0}};
  poll_all(std::span(polled).first(second == nullptr ? 1 : 2), deadline);
  ready.first = polled[0].revents != 0;
  ready.second = polled[1].revents != 0;
  return ready;
}

Readiness wait_writable_or_readable(const Stream& stream) {
  if (stream.buffered()) return {.first = true};
  pollfd polled{stream.fd(), POLLIN | POLLOUT, 0};
  poll_all(std::span(&polled, 1), std::nullopt);
  return {.first = (polled.revents & (POLLIN | POLLHUP | POLLERR)) != 0,
          .writable = (polled.revents & (POLLOUT | POLLHUP | POLLERR)) != 0};
}

std::optional<std::size_t> read_before(Stream& stream, MutableByteView into, Deadline deadline) {
  for (;;) {
    if (const auto got = stream.try_read(into)) return got;
    if (!wait_readable(stream, nullptr, deadline).first) return std::nullopt;
  }
}

SocketStream::SocketStream(UniqueFd socket) : socket_(std::move(socket)) {
  const int on = 1;
  // Both fail on Unix sockets, which need neither.
  ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  const timeval moment{0, std::chrono::microseconds(kMoment).count()};
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &moment, sizeof moment);
}

std::optional<std::size_t> SocketStream::receive(MutableByteView into, int flags) {
  for (;;) {
    const ssize_t got = ::recv(socket_.get(), into.data(), into.size(), flags);
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno == EAGAIN || errno == EWOULDBLOCK) return std::nullopt;
    // A peer that closes with data unread resets the connection: for us it has closed.
    if (errno == ECONNRESET) return 0;
    if (errno != EINTR) throw_connection_failure("receive data");
  }
}

std::optional<std::size_t> SocketStream::try_read(MutableByteView into) {
  return receive(into, MSG_DONTWAIT);
}

std::optional<std::size_t> SocketStream::read_soon(MutableByteView into) {
  return receive(into, 0);  // waits kMoment: SO_RCVTIMEO
}

std::size_t SocketStream::try_write(ByteView bytes) {
  for (;;) {
    const ssize_t sent =
        ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return static_cast<std::size_t>(sent);
    if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
    if (errno != EINTR) throw_connection_failure("send data");
  }
}

void SocketStream::write_all(ByteView bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
    } else if (errno != EINTR) {
      throw_connection_failure("send data");
    }
  }
}

}  // namespace holdfast::net
