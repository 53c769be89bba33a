#include "pgwire/client_watch.h"

#include <poll.h>

#include <array>
#include <cerrno>

#include "base/log.h"

namespace holdfast::pgwire {

ClientWatch::ClientWatch(int fd, SessionHandle& handle) : handle_(handle) {
  if (fd >= 0) thread_ = std::jthread([this, fd] { watch(fd); });
}

ClientWatch::~ClientWatch() { done_.signal(); }

void ClientWatch::watch(int fd) {
  // Not POLLIN: what a pipelining client has sent already stays unread until the statement ends.
  std::array<pollfd, 2> polled{pollfd{fd, POLLRDHUP, 0}, pollfd{done_.fd(), POLLIN, 0}};
  while (::poll(polled.data(), polled.size(), -1) < 0) {
    if (errno != EINTR) return log::warning("could not watch the client: errno {}", errno);
  }
  if (polled[0].revents == 0) return;
  gone_ = true;
  handle_.client_left();
}

}  // namespace holdfast::pgwire
