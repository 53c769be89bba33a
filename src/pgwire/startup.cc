#include "pgwire/startup.h"

#include "base/error.h"
#include "pgwire/message_reader.h"
#include "pgwire/protocol.h"

namespace holdfast::pgwire {

namespace {

/// False when the stream ended before its first byte.
bool read_exactly(net::Stream& stream, MutableByteView into, net::Deadline deadline) {
  std::size_t done = 0;
  while (done < into.size()) {
    const auto got = net::read_before(stream, into.subspan(done), deadline);
    if (!got) throw Error(sqlstate::kConnectionFailure, "the client took too long to log in");
    if (*got == 0) {
      if (done == 0) return false;
      throw Error(sqlstate::kProtocolViolation, "incomplete startup packet");
    }
    done += *got;
  }
  return true;
}

/// PostgreSQL reads `replication` as a boolean or as the word "database".
/// Source: PostgreSQL src/backend/tcop/backend_startup.c (ProcessStartupPacket).
bool asks_for_replication(std::string_view value) {
  for (std::string_view no : {"false", "off", "no", "0", "f", "n", "of", "fa", "fal", "fals"})
    if (value == no) return false;
  return true;
}

}  // namespace

std::optional<StartupPacket> read_startup_packet(net::Stream& client, net::Deadline deadline) {
  StartupPacket packet;
  packet.bytes.resize(4);
  if (!read_exactly(client, packet.bytes, deadline)) return std::nullopt;
  const std::uint32_t length = read_be32(packet.bytes.data());
  if (length < 8 || length > kMaxStartupBytes)
    throw Error(sqlstate::kProtocolViolation, "invalid length of startup packet");
  packet.bytes.resize(length);
  if (!read_exactly(client, MutableByteView(packet.bytes).subspan(4), deadline))
    throw Error(sqlstate::kProtocolViolation, "incomplete startup packet");
  packet.code = read_be32(packet.bytes.data() + 4);
  return packet;
}

StartupParameters parse_startup_parameters(ByteView body) {
  StartupParameters parameters;
  MessageReader reader(body);
  for (;;) {
    const std::string_view name = reader.string();
    if (name.empty()) break;
    const std::string_view value = reader.string();
    if (name == "user") parameters.user = value;
    if (name == "database") parameters.database = value;
    if (name == "application_name") parameters.application_name = value;
    if (name == "replication") parameters.replication = asks_for_replication(value);
    if (name.starts_with("_pq_.")) parameters.extensions.emplace_back(name);
  }
  reader.expect_end();
  if (parameters.user.empty()) {
    throw Error(sqlstate::kInvalidAuthorization,
                "no PostgreSQL user name specified in startup packet");
  }
  if (parameters.database.empty()) parameters.database = parameters.user;
  return parameters;
}

}  // namespace holdfast::pgwire
