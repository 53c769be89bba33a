#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>

#include "base/error.h"
#include "postgres/wait_internal.h"

namespace holdfast::postgres {
namespace {

UniqueFd make_event() {
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) throw_errno("create an eventfd");
  return event;
}

int poll_timeout(const Deadline& deadline) {
  if (!deadline) return -1;
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(*deadline - std::chrono::steady_clock::now());
  return static_cast<int>(std::clamp<long long>(left.count(), 0, INT_MAX));
}

}  // namespace

void StopWake::Signal::operator()() const noexcept {
  const std::uint64_t one = 1;
  // A full counter is readable already, so a failed write changes nothing.
  [[maybe_unused]] const auto written = ::write(fd, &one, sizeof one);
}

StopWake::StopWake(const Stop& stop)
    : stop_(stop), event_(make_event()), callback_(stop.token(), Signal{event_.get()}) {}

bool wait_for(int fd, short events, const Deadline& deadline, const StopWake& wake, int other_fd) {
  while (true) {
    wake.stop().check();
    pollfd polled[] = {{.fd = fd, .events = events, .revents = 0},
                       {.fd = wake.fd(), .events = POLLIN, .revents = 0},
                       {.fd = other_fd, .events = POLLIN, .revents = 0}};
    const int ready = ::poll(polled, 3, poll_timeout(deadline));
    if (ready < 0 && errno != EINTR) throw_errno("poll a socket");
    if (ready == 0) return false;
    if (ready > 0 && (polled[0].revents != 0 || polled[2].revents != 0)) return true;
  }
}

}  // namespace holdfast::postgres
