#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"

namespace holdfast::net {

struct HostPort {
  std::string host;
  std::uint16_t port = 0;
};

/// Reads "127.0.0.1:26257", "[::1]:26257", "localhost:26257", ":26257" (host empty). Absent when
/// it is none of these.
std::optional<HostPort> parse_host_port(std::string_view text);

/// Listening sockets for every address that `host` names ("*" or empty: all interfaces). Port 0
/// takes a free one. Throws Error when none can be opened.
std::vector<UniqueFd> listen_tcp(const std::string& host, std::uint16_t port);
/// The port that a TCP socket is bound to.
std::uint16_t local_port(int socket);

/// A listening Unix socket at `path` with the given permission bits. Removes what a process that
/// died left there; throws kObjectInUse when somebody still listens on it.
UniqueFd listen_unix(const std::string& path, mode_t mode);

/// A connection; throws Error with kConnectionFailure when none of the host's addresses answers
/// within the timeout.
UniqueFd connect_tcp(const std::string& host, std::uint16_t port,
                     std::chrono::milliseconds timeout);
UniqueFd connect_unix(const std::string& path);

/// Takes a waiting connection; absent when it is gone again. Throws on lack of descriptors.
std::optional<UniqueFd> accept_connection(int listener);

/// The user of the process at the other end of a Unix socket. Absent for other sockets.
std::optional<uid_t> peer_uid(int socket);
/// True for Unix sockets and for TCP peers on a loopback address.
bool peer_is_local(int socket);
/// "10.1.2.3:52114", "[::1]:52114" or "local", for logs.
std::string peer_name(int socket);

/// Makes a blocked or later read or write on the socket end. May be called from any thread while
/// the socket is open.
void interrupt_reads(int socket);
void interrupt(int socket);

}  // namespace holdfast::net
