#include "pgwire/session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "pgwire/message_writer.h"
#include "pgwire/testing/canned_runner.h"
#include "pgwire/testing/memory_stream.h"

namespace holdfast::pgwire {
namespace {

/// Messages as they lie on the wire.
class Script {
 public:
  Script& empty(char type) {
    write_empty(out_, type);
    return *this;
  }
  Script& query(std::string_view text) {
    write_query(out_, text);
    return *this;
  }
  Script& parse(std::string_view name, std::string_view text) {
    out_.begin('P');
    out_.string(name);
    out_.string(text);
    out_.u16(0);
    out_.end();
    return *this;
  }
  Script& bind(std::string_view portal, std::string_view statement) {
    out_.begin('B');
    out_.string(portal);
    out_.string(statement);
    for (int i = 0; i < 3; ++i) out_.u16(0);
    out_.end();
    return *this;
  }
  Script& execute(std::string_view portal) {
    out_.begin('E');
    out_.string(portal);
    out_.u32(0);
    out_.end();
    return *this;
  }
  Script& ready(char status) {
    write_ready(out_, status);
    return *this;
  }
  Script& complete(std::string_view tag) {
    write_command_complete(out_, tag);
    return *this;
  }
  Script& error() {
    write_error(out_, Severity::Error, Error(sqlstate::kSyntaxError, "from the server"));
    return *this;
  }
  std::string text() const { return std::string(as_text(out_.view())); }

 private:
  MessageWriter out_;
};

std::string types(std::string_view messages) {
  std::string result;
  ByteView rest = as_bytes(messages);
  while (const auto message = first_message(rest, kMaxMessageBytes)) {
    result.push_back(message->type);
    rest = rest.subspan(message->whole.size());
  }
  return result;
}

/// A PostgreSQL that gives its next answer when it gets a Query, Sync or Flush.
class ScriptedServer : public MemoryStream {
 public:
  enum class End { Waits, Dies };  ///< after the last answer

  ScriptedServer(std::vector<Script> answers, End end)
      : MemoryStream(""), answers_(std::move(answers)), end_(end) {}

  std::optional<std::size_t> try_read(MutableByteView into) override {
    if (ready_.empty() && (end_ == End::Waits || next_ < answers_.size())) return std::nullopt;
    const std::size_t count = std::min(into.size(), ready_.size());
    std::memcpy(into.data(), ready_.data(), count);
    ready_.erase(0, count);
    return count;
  }
  std::optional<std::size_t> read_soon(MutableByteView into) override { return try_read(into); }
  std::size_t try_write(ByteView bytes) override {
    MemoryStream::try_write(bytes);
    *received_ = written();
    const std::string received = types(written());
    const auto prompts =
        static_cast<std::size_t>(std::count_if(received.begin(), received.end(), [](char type) {
          return type == 'Q' || type == 'S' || type == 'H';
        }));
    for (; next_ < prompts && next_ < answers_.size(); ++next_) ready_ += answers_[next_].text();
    return bytes.size();
  }
  /// Keeps what was received, beyond the stream's own life.
  void record(std::string& received) { received_ = &received; }
  /// Something comes without having been asked for.
  void say(const Script& words) { ready_ += words.text(); }

 private:
  std::vector<Script> answers_;
  End end_;
  std::string* received_ = nullptr;
  std::string ready_;
  std::size_t next_ = 0;
};

struct Outcome {
  std::string to_client;
  std::string to_server;
};

/// Runs a session to the end of what the client says, its bytes arriving in pieces of `piece`.
Outcome talk(const Script& client_says, std::unique_ptr<ScriptedServer> server,
             std::size_t piece = SIZE_MAX) {
  MemoryStream client(client_says.text(), piece);
  ReadBuffer input;
  SessionHandle handle;
  CannedRunner runner;
  Outcome outcome;
  server->record(outcome.to_server);
  Relay relay(client, input, handle);
  BackendConnection backend;
  backend.stream = std::move(server);
  relay.connect(std::move(backend));
  Session session(client, relay, runner, handle, nullptr,
                  {.user = "anna", .database = "bank", .local_administrator = false});
  EXPECT_THROW(session.run(), SessionOver);  // the client's end
  outcome.to_client = client.written();
  return outcome;
}

Outcome talk(const Script& client_says, std::vector<Script> answers, std::size_t piece = SIZE_MAX) {
  return talk(client_says,
              std::make_unique<ScriptedServer>(std::move(answers), ScriptedServer::End::Waits),
              piece);
}

TEST(Session, ForeignMessagesPassUnchangedWhateverTheirPieces) {
  Script client;
  client.query("SELECT 1").parse("s", "SELECT 2").bind("", "s").execute("").empty('S');
  const Script first = Script().complete("SELECT 1").ready('I');
  const Script second = Script().empty('1').empty('2').complete("SELECT 1").ready('I');
  for (std::size_t piece : {std::size_t{1}, std::size_t{7}, std::size_t{4096}}) {
    const Outcome outcome = talk(client, {first, second}, piece);
    EXPECT_EQ(outcome.to_server, client.text());
    EXPECT_EQ(outcome.to_client, first.text() + second.text());
  }
}

TEST(Session, OwnStatementsAreNotSeenByTheServer) {
  const Outcome outcome = talk(Script().query("SHOW JOBS"), std::vector<Script>{});
  EXPECT_EQ(types(outcome.to_client), "TDDCZ");
  EXPECT_EQ(outcome.to_server, "");
}

TEST(Session, AnOwnStatementIsAnsweredAfterWhatTheServerOwes) {
  Script client;
  client.parse("", "SELECT 1").bind("", "").execute("").parse("o", "SHOW JOBS").bind("", "o");
  client.execute("").empty('S');
  const Outcome outcome =
      talk(client, {Script().empty('1').empty('2').complete("SELECT 1"), Script().ready('I')});
  EXPECT_EQ(types(outcome.to_client), "12C12DDCZ");
  EXPECT_EQ(types(outcome.to_server), "PBEHS");
}

TEST(Session, OnlyTheLastReadyForQueryOfAMixedQueryIsSeen) {
  const Outcome outcome = talk(Script().query("SELECT 1; SHOW JOBS; SELECT 2; SELECT 3"),
                               {Script().complete("SELECT 1").ready('I'),
                                Script().complete("SELECT 2").complete("SELECT 3").ready('I')});
  EXPECT_EQ(types(outcome.to_client), "CTDDCCCZ");
  EXPECT_NE(outcome.to_server.find("SELECT 2; SELECT 3"), std::string::npos);
}

TEST(Session, AnErrorEndsAMixedQuery) {
  const Outcome outcome =
      talk(Script().query("SELECT x; SHOW JOBS"), {Script().error().ready('I')});
  EXPECT_EQ(types(outcome.to_client), "EZ");
}

TEST(Session, AnErrorOfOursFailsTheServersTransaction) {
  const Outcome outcome =
      talk(Script().query("BEGIN").query("CANCEL JOB 1").query("SHOW JOBS"),
           {Script().complete("BEGIN").ready('T'), Script().error().ready('E')});
  EXPECT_EQ(types(outcome.to_client), "CZEZEZ");
  EXPECT_EQ(outcome.to_client.find("from the server"), std::string::npos);
  EXPECT_NE(outcome.to_client.find("25P02"), std::string::npos);
  EXPECT_EQ(outcome.to_client.back(), 'E');
}

TEST(Session, AStatementOutlivesTheServersConnection) {
  auto server = std::make_unique<ScriptedServer>(std::vector<Script>{}, ScriptedServer::End::Dies);
  server->say(Script().error());  // FATAL, and the stream ends
  const Outcome outcome = talk(Script().query("RESTORE FROM LATEST IN 'x'"), std::move(server));
  EXPECT_EQ(outcome.to_client.find("from the server"), std::string::npos);
  EXPECT_EQ(types(outcome.to_client), "TDCZ");
}

TEST(Session, AMessageWithABadLengthEndsTheSession) {
  MemoryStream client(std::string("Q\0\0\0\1", 5));
  ReadBuffer input;
  SessionHandle handle;
  CannedRunner runner;
  Relay relay(client, input, handle);
  Session session(client, relay, runner, handle, nullptr, {});
  EXPECT_THROW(session.run(), Error);
}

}  // namespace
}  // namespace holdfast::pgwire
