#include "pgwire/shared_loop.h"

#include <sys/epoll.h>

#include <array>
#include <cstdint>

#include "base/error.h"

namespace holdfast::pgwire {

namespace {
constexpr int kEventsAtOnce = 64;
/// In an event's word, beside the address of a seat, which is even.
constexpr std::uint64_t kServerSide = 1;

void watch(int epoll, int fd, std::uint64_t word) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = word;
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) throw_errno("watch a connection");
}
}  // namespace

struct SharedLoop::Seat {
  Passenger& passenger;
  const int client_fd;
  const int server_fd;
  // Written by the loop's thread while the session's own thread sleeps.
  bool got_off = false;
  Passenger::Step step = Passenger::Step::Stay;
  std::exception_ptr failure;

  Mutex mutex;
  std::condition_variable_any changed;
  bool done HF_GUARDED_BY(mutex) = false;
};

SharedLoop::SharedLoop() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (!epoll_) throw_errno("create an event loop");
  watch(epoll_.get(), wake_.fd(), 0);
  thread_ = std::jthread([this](const std::stop_token& token) { run(token); });
}

SharedLoop::~SharedLoop() {
  thread_.request_stop();
  wake_.signal();
}

Passenger::Step SharedLoop::ride(Passenger& passenger, int client_fd, int server_fd) {
  Seat seat{.passenger = passenger,
            .client_fd = client_fd,
            .server_fd = server_fd,
            .failure = nullptr,
            .mutex = {},
            .changed = {}};
  const auto word = reinterpret_cast<std::uint64_t>(&seat);
  {
    // Held until both are watched, so that the loop cannot let the passenger off before.
    MutexLock lock(seat.mutex);
    watch(epoll_.get(), server_fd, word | kServerSide);
    watch(epoll_.get(), client_fd, word);
    seat.changed.wait(lock, [&]() HF_REQUIRES(seat.mutex) { return seat.done; });
  }
  if (seat.failure) std::rethrow_exception(seat.failure);
  return seat.step;
}

bool SharedLoop::serve(Seat& seat, bool client_side) {
  try {
    seat.step =
        client_side ? seat.passenger.on_client_readable() : seat.passenger.on_server_readable();
  } catch (...) {
    seat.failure = std::current_exception();  // rethrown by ride()
    return true;
  }
  return seat.step != Passenger::Step::Stay;
}

void SharedLoop::run(const std::stop_token& token) {
  std::array<epoll_event, kEventsAtOnce> events{};
  std::vector<Seat*> leaving;
  while (!token.stop_requested()) {
    const int count = ::epoll_wait(epoll_.get(), events.data(), kEventsAtOnce, -1);
    for (int i = 0; i < count; ++i) {
      const std::uint64_t word = events[static_cast<std::size_t>(i)].data.u64;
      if (word == 0) {
        wake_.clear();
        continue;
      }
      Seat& seat = *reinterpret_cast<Seat*>(word & ~kServerSide);
      if (seat.got_off || !serve(seat, (word & kServerSide) == 0)) continue;
      seat.got_off = true;
      leaving.push_back(&seat);
    }
    // Only now, because a seat may have two events in one round.
    for (Seat* seat : leaving) {
      MutexLock lock(seat->mutex);
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, seat->client_fd, nullptr);
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, seat->server_fd, nullptr);
      seat->done = true;
      seat->changed.notify_one();
    }
    leaving.clear();
  }
}

}  // namespace holdfast::pgwire
