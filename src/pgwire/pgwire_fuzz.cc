// Feeds a session with a client's and a server's bytes from memory.
//
// Input: the size of the pieces (one byte), the length of the client's part (two bytes, little
// endian), the client's bytes, then the server's. A first byte with its top bit set starts without
// a PostgreSQL connection.

#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/log.h"
#include "pgwire/message_reader.h"
#include "pgwire/session.h"
#include "pgwire/startup.h"
#include "pgwire/testing/canned_runner.h"
#include "pgwire/testing/memory_stream.h"

namespace {

using namespace holdfast;  // NOLINT: a program of one file

/// Never waits: a BACKUP would.
class ImpatientRunner : public pgwire::CannedRunner {
 public:
  void run(std::string_view statement, std::span<const sql::Value> parameters,
           sql::SessionContext& session, sql::RowSink& sink, const Stop& stop) override {
    if (statement.size() > 2 && (statement[0] | 0x20) == 'b')
      throw Error(sqlstate::kFeatureNotSupported, "no backups here");
    if (statement.size() > 2 && (statement[0] | 0x20) == 'r') throw Stopped{StopReason::Cancel};
    CannedRunner::run(statement, parameters, session, sink, stop);
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool quiet = log::set_level("error");
  if (!quiet || size < 3) return 0;
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const std::size_t piece = (data[0] & 0x7f) + 1u;
  const std::size_t client_size = std::min<std::size_t>(data[1] | data[2] << 8, size - 3);
  const std::string_view from_client = all.substr(3, client_size);
  const std::string_view from_server = all.substr(3 + client_size);

  try {
    pgwire::MemoryStream start{std::string(from_client)};
    if (const auto packet = pgwire::read_startup_packet(start, std::nullopt))
      pgwire::parse_startup_parameters(ByteView(packet->bytes).subspan(8));
  } catch (const Error&) {
  }

  pgwire::MemoryStream client(std::string(from_client), piece);
  pgwire::ReadBuffer client_input;
  pgwire::SessionHandle handle;
  ImpatientRunner runner;
  try {
    pgwire::Relay relay(client, client_input, handle);
    if ((data[0] & 0x80) == 0) {
      pgwire::BackendConnection backend;
      backend.stream = std::make_unique<pgwire::MemoryStream>(std::string(from_server), piece);
      relay.connect(std::move(backend));
    }
    pgwire::Session session(client, relay, runner, handle, nullptr,
                            {.user = "u", .database = "d", .local_administrator = true});
    session.run();
  } catch (const pgwire::SessionOver&) {
  } catch (const Error&) {
  }
  return 0;
}
