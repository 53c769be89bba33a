#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "net/stream.h"

namespace holdfast::pgwire {

/// What a client asks for first.
struct StartupPacket {
  std::uint32_t code = 0;  ///< protocol version, or one of the request codes of protocol.h
  Bytes bytes;             ///< the whole packet, to be passed on
};

/// Reads one untyped packet and not a byte more: TLS may follow. Absent when the client has gone.
/// Throws Error with kProtocolViolation when its length is not allowed, and with
/// kConnectionFailure when the deadline passes.
std::optional<StartupPacket> read_startup_packet(net::Stream& client, net::Deadline deadline);

/// What a StartupMessage says.
struct StartupParameters {
  std::string user;
  std::string database;  ///< the user's name when none is given
  std::string application_name;
  bool replication = false;
  /// Names of protocol extensions asked for ("_pq_.…").
  std::vector<std::string> extensions;
};

/// Reads the body behind the protocol version. Throws Error with kProtocolViolation, or with
/// kInvalidAuthorization when there is no user.
StartupParameters parse_startup_parameters(ByteView body);

}  // namespace holdfast::pgwire
