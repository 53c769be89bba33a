#include "net/socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

#include "base/error.h"

namespace holdfast::net {

namespace {

struct AddressListDeleter {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using AddressList = std::unique_ptr<addrinfo, AddressListDeleter>;

AddressList resolve(const std::string& host, std::uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const std::string service = std::to_string(port);
  const int status =
      ::getaddrinfo(host.empty() ? nullptr : host.c_str(), service.c_str(), &hints, &list);
  if (status != 0) {
    throw Error(sqlstate::kConnectionFailure, fmt::format("could not resolve host name \"{}\": {}",
                                                          host, ::gai_strerror(status)));
  }
  return AddressList(list);
}

sockaddr_un unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    throw Error(sqlstate::kConfigFileError,
                fmt::format("Unix socket path \"{}\" is too long", path))
        .detail(fmt::format("At most {} bytes fit.", sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

void connect_within(int socket, const addrinfo& address, std::chrono::milliseconds timeout) {
  if (::connect(socket, address.ai_addr, address.ai_addrlen) == 0) return;
  if (errno != EINPROGRESS) return;  // the caller reads SO_ERROR or errno
  pollfd polled{socket, POLLOUT, 0};
  if (::poll(&polled, 1, static_cast<int>(timeout.count())) == 0) errno = ETIMEDOUT;
}

/// 0 when connected.
int connection_error(int socket) {
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return errno;
  if (error != 0) return error;
  sockaddr_storage peer{};
  size = sizeof peer;
  return ::getpeername(socket, reinterpret_cast<sockaddr*>(&peer), &size) == 0 ? 0 : ECONNREFUSED;
}

void set_blocking(int socket) {
  const int flags = ::fcntl(socket, F_GETFL);
  if (flags < 0 || ::fcntl(socket, F_SETFL, flags & ~O_NONBLOCK) != 0)
    throw_errno("prepare a socket");
}

}  // namespace

std::optional<HostPort> parse_host_port(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  const std::string_view digits = text.substr(colon + 1);
  if (host.starts_with('[')) {
    if (!host.ends_with(']') || host.size() < 3) return std::nullopt;
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return std::nullopt;  // an IPv6 address without brackets is ambiguous
  }
  HostPort result{.host = std::string(host)};
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), result.port);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return result;
}

std::vector<UniqueFd> listen_tcp(const std::string& host, std::uint16_t port) {
  const AddressList addresses = resolve(host == "*" ? "" : host, port, AI_PASSIVE);
  std::vector<UniqueFd> listeners;
  int last_error = 0;
  for (const addrinfo* address = addresses.get(); address != nullptr; address = address->ai_next) {
    // With port 0 every address would get a different one.
    if (port == 0 && !listeners.empty()) break;
    UniqueFd listener(::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int on = 1;
    if (listener) {
      ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
      if (address->ai_family == AF_INET6)
        ::setsockopt(listener.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    }
    if (!listener || ::bind(listener.get(), address->ai_addr, address->ai_addrlen) != 0 ||
        ::listen(listener.get(), SOMAXCONN) != 0) {
      last_error = errno;
      continue;
    }
    listeners.push_back(std::move(listener));
  }
  if (listeners.empty()) {
    throw Error(sqlstate::kObjectInUse,
                fmt::format("could not listen on {}:{}: {}", host, port, std::strerror(last_error)))
        .hint("Is another program using the port? Choose another one with --listen.");
  }
  return listeners;
}

std::uint16_t local_port(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw_errno("read a socket's address");
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

UniqueFd listen_unix(const std::string& path, mode_t mode) {
  const sockaddr_un address = unix_address(path);
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0) {
    if (!S_ISSOCK(status.st_mode)) {
      throw Error(sqlstate::kObjectInUse,
                  fmt::format("could not listen on \"{}\": the file is not a socket", path));
    }
    // A socket that refuses is what a killed process left behind.
    UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!probe) throw_errno("create a Unix socket");
    if (::connect(probe.get(), generic, sizeof address) == 0 || errno != ECONNREFUSED) {
      throw Error(sqlstate::kObjectInUse, fmt::format("Unix socket \"{}\" is in use", path))
          .hint("Is holdfast already running? Choose another directory or port.");
    }
    if (::unlink(path.c_str()) != 0)
      throw_errno(fmt::format("remove stale Unix socket \"{}\"", path));
  }
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) throw_errno("create a Unix socket");
  if (::bind(listener.get(), generic, sizeof address) != 0)
    throw_errno(fmt::format("create Unix socket \"{}\"", path));
  // Nobody can connect before listen(), so the mode is in force from the start.
  if (::chmod(path.c_str(), mode) != 0)
    throw_errno(fmt::format("set the mode of Unix socket \"{}\"", path));
  if (::listen(listener.get(), SOMAXCONN) != 0)
    throw_errno(fmt::format("listen on Unix socket \"{}\"", path));
  return listener;
}

UniqueFd connect_tcp(const std::string& host, std::uint16_t port,
                     std::chrono::milliseconds timeout) {
  const AddressList addresses = resolve(host, port, 0);
  int last_error = ECONNREFUSED;
  for (const addrinfo* address = addresses.get(); address != nullptr; address = address->ai_next) {
    UniqueFd socket(::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) throw_errno("create a socket");
    errno = 0;
    connect_within(socket.get(), *address, timeout);
    if (errno == ETIMEDOUT) {
      last_error = ETIMEDOUT;
      continue;
    }
    last_error = connection_error(socket.get());
    if (last_error == 0) {
      set_blocking(socket.get());
      return socket;
    }
  }
  throw Error(sqlstate::kConnectionFailure,
              fmt::format("could not connect to {}:{}: {}", host, port, std::strerror(last_error)));
}

UniqueFd connect_unix(const std::string& path) {
  const sockaddr_un address = unix_address(path);
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) throw_errno("create a Unix socket");
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    throw Error(sqlstate::kConnectionFailure,
                fmt::format("could not connect to \"{}\": {}", path, std::strerror(errno)));
  }
  return socket;
}

std::optional<UniqueFd> accept_connection(int listener) {
  UniqueFd socket(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  if (socket) return socket;
  // The client may have left between poll and accept; accept(2) hands over its network errors.
  if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
    throw_errno("accept a connection");
  return std::nullopt;
}

std::optional<uid_t> peer_uid(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      address.ss_family != AF_UNIX)
    return std::nullopt;
  ucred credentials{};
  size = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return std::nullopt;
  return credentials.uid;
}

bool peer_is_local(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getpeername(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) return false;
  if (address.ss_family == AF_UNIX) return true;
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    return (ntohl(v4.sin_addr.s_addr) >> 24) == 127;
  }
  if (address.ss_family != AF_INET6) return false;
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr) ||
         (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr) && v6.sin6_addr.s6_addr[12] == 127);
}

std::string peer_name(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getpeername(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "gone";
  char text[INET6_ADDRSTRLEN] = {};
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    ::inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    return fmt::format("{}:{}", text, ntohs(v4.sin_port));
  }
  if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    ::inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
    return fmt::format("[{}]:{}", text, ntohs(v6.sin6_port));
  }
  return "local";
}

void interrupt_reads(int socket) { ::shutdown(socket, SHUT_RD); }
void interrupt(int socket) { ::shutdown(socket, SHUT_RDWR); }

}  // namespace holdfast::net
