#include "net/socket.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/error.h"
#include "net/stream.h"

namespace holdfast::net {
namespace {

class SocketDirectory : public ::testing::Test {
 protected:
  SocketDirectory() {
    char name[] = "/tmp/hf-net-XXXXXX";
    directory_ = ::mkdtemp(name);
  }
  ~SocketDirectory() override { std::filesystem::remove_all(directory_); }

  std::string path() const { return directory_ + "/.s.PGSQL.1"; }
  std::string directory_;
};

TEST(HostPort, IsReadInItsUsualForms) {
  EXPECT_EQ(parse_host_port("127.0.0.1:26257")->port, 26257);
  EXPECT_EQ(parse_host_port("[::1]:80")->host, "::1");
  EXPECT_EQ(parse_host_port(":80")->host, "");
  EXPECT_EQ(parse_host_port("*:80")->host, "*");
  for (const char* wrong : {"", "localhost", "a:", "a:x", "a:70000", "::1:80", "[]:1", "a:-1"})
    EXPECT_FALSE(parse_host_port(wrong)) << wrong;
}

TEST_F(SocketDirectory, SocketOfADeadProcessIsReplaced) {
  { const UniqueFd dead = listen_unix(path(), 0700); }
  ASSERT_TRUE(std::filesystem::exists(path()));
  const UniqueFd listener = listen_unix(path(), 0770);
  struct stat status {};
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0770u);
  EXPECT_TRUE(connect_unix(path()));
}

TEST_F(SocketDirectory, SocketInUseIsLeftAlone) {
  const UniqueFd listener = listen_unix(path(), 0700);
  EXPECT_THROW(listen_unix(path(), 0700), Error);
  EXPECT_TRUE(connect_unix(path()));
}

TEST_F(SocketDirectory, AnotherFileIsLeftAlone) {
  std::ofstream(path()) << "data";
  EXPECT_THROW(listen_unix(path(), 0700), Error);
  EXPECT_EQ(std::filesystem::file_size(path()), 4u);
}

TEST_F(SocketDirectory, PeerOfAUnixSocketIsKnown) {
  const UniqueFd listener = listen_unix(path(), 0700);
  const UniqueFd client = connect_unix(path());
  const auto accepted = accept_connection(listener.get());
  ASSERT_TRUE(accepted);
  EXPECT_EQ(peer_uid(accepted->get()), ::geteuid());
  EXPECT_TRUE(peer_is_local(accepted->get()));
}

TEST(Tcp, ConnectsAndKnowsItsPeer) {
  const auto listeners = listen_tcp("127.0.0.1", 0);
  const std::uint16_t port = local_port(listeners.front().get());
  const UniqueFd client = connect_tcp("127.0.0.1", port, std::chrono::seconds(5));
  const auto accepted = accept_connection(listeners.front().get());
  ASSERT_TRUE(accepted);
  EXPECT_TRUE(peer_is_local(accepted->get()));
  EXPECT_FALSE(peer_uid(accepted->get()));
  EXPECT_THROW(listen_tcp("127.0.0.1", port), Error);
}

TEST(Tcp, ClosedPortIsAConnectionFailure) {
  std::uint16_t port = 0;
  {
    const auto listeners = listen_tcp("127.0.0.1", 0);
    port = local_port(listeners.front().get());
  }
  try {
    connect_tcp("127.0.0.1", port, std::chrono::seconds(5));
    FAIL() << "connected to nobody";
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kConnectionFailure);
  }
}

TEST(SocketStream, InterruptEndsABlockedWrite) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  SocketStream stream{UniqueFd(pair[0])};
  const UniqueFd reader_that_does_not_read(pair[1]);
  std::jthread writer([&] {
    const Bytes much(64 << 20);
    EXPECT_THROW(stream.write_all(much), Error);
  });
  // Before or after the write blocks: it ends either way.
  interrupt(stream.fd());
}

TEST(SocketStream, EndOfThePeerIsZeroBytesAndNothingYetIsAbsent) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  SocketStream stream{UniqueFd(pair[0])};
  UniqueFd peer(pair[1]);
  std::array<std::byte, 8> space{};
  EXPECT_EQ(stream.try_read(space), std::nullopt);
  EXPECT_EQ(stream.read_soon(space), std::nullopt);
  EXPECT_EQ(read_before(stream, space, std::chrono::steady_clock::now()), std::nullopt);
  ASSERT_EQ(::write(peer.get(), "abc", 3), 3);
  EXPECT_EQ(stream.try_read(space), 3u);
  peer.reset();
  EXPECT_EQ(stream.read_soon(space), 0u);
}

}  // namespace
}  // namespace holdfast::net
