#include "console/http_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <sys/socket.h>

#include <chrono>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace holdfast::console {
namespace {

HttpPages pages() {
  return {.health = [] { return HttpPages::Health{.healthy = true, .json = R"({"status":"ok"})"}; },
          .metrics = [] { return std::string("holdfast_up 1\n"); }};
}

TEST(HttpServer, AnswersHealthAndMetrics) {
  HttpServer server({.host = "127.0.0.1"}, pages());
  httplib::Client client("127.0.0.1", server.port());
  auto health = client.Get("/health");
  ASSERT_TRUE(health);
  EXPECT_EQ(health->status, 200);
  EXPECT_EQ(health->body, R"({"status":"ok"})");
  auto metrics = client.Get("/metrics");
  ASSERT_TRUE(metrics);
  EXPECT_EQ(metrics->body, "holdfast_up 1\n");
  auto other = client.Get("/other");
  ASSERT_TRUE(other);
  EXPECT_EQ(other->status, 404);
}

TEST(HttpServer, SaysUnhealthyWith503) {
  HttpPages sick = pages();
  sick.health = [] { return HttpPages::Health{.healthy = false, .json = "{}"}; };
  HttpServer server({.host = "127.0.0.1"}, sick);
  auto health = httplib::Client("127.0.0.1", server.port()).Get("/health");
  ASSERT_TRUE(health);
  EXPECT_EQ(health->status, 503);
}

TEST(HttpServer, APageThatThrowsIsA500AndTheServerGoesOn) {
  HttpPages broken = pages();
  broken.metrics = []() -> std::string { throw Error(sqlstate::kIoError, "no figures"); };
  HttpServer server({.host = "127.0.0.1"}, broken);
  httplib::Client client("127.0.0.1", server.port());
  auto metrics = client.Get("/metrics");
  ASSERT_TRUE(metrics);
  EXPECT_EQ(metrics->status, 500);
  auto health = client.Get("/health");
  ASSERT_TRUE(health);
  EXPECT_EQ(health->status, 200);
}

using SteadyClock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// A connection that a test drips bytes into.
UniqueFd connect_to(const HttpServer& server) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(server.port());
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  return fd;
}

/// What the server sends until it closes the connection.
std::string read_all(const UniqueFd& fd) {
  std::string all;
  char buffer[4096];
  for (ssize_t got = 0; (got = ::recv(fd.get(), buffer, sizeof buffer, 0)) > 0;) {
    all.append(buffer, static_cast<std::size_t>(got));
  }
  return all;
}

TEST(HttpServer, AClientThatDripsItsRequestIsCutOffInTime) {
  HttpServer server({.host = "127.0.0.1", .longest_request = milliseconds(400)}, pages());
  const UniqueFd slow = connect_to(server);
  const auto start = SteadyClock::now();
  // Each byte comes well before any timeout of a single read.
  bool open = true;
  while (open && SteadyClock::now() - start < std::chrono::seconds(10)) {
    open = ::send(slow.get(), "G", 1, MSG_NOSIGNAL) == 1;
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_FALSE(open);
  EXPECT_LT(SteadyClock::now() - start, std::chrono::seconds(5));
}

TEST(HttpServer, ManySlowClientsKeepNobodyFromTheFiguresForLong) {
  HttpServer server({.host = "127.0.0.1", .longest_request = milliseconds(3000)}, pages());
  std::vector<UniqueFd> slow;
  for (int i = 0; i < 40; ++i) {
    slow.push_back(connect_to(server));
    EXPECT_EQ(::send(slow.back().get(), "GET /metrics HTTP/1.1\r\nX: ", 26, MSG_NOSIGNAL), 26);
  }
  const auto start = SteadyClock::now();
  httplib::Client client("127.0.0.1", server.port());
  client.set_read_timeout(std::chrono::seconds(20));
  const auto metrics = client.Get("/metrics");
  ASSERT_TRUE(metrics);
  EXPECT_EQ(metrics->body, "holdfast_up 1\n");
  EXPECT_LT(SteadyClock::now() - start, std::chrono::seconds(15));
}

TEST(HttpServer, ClosesConnectionsThatFindNoRoom) {
  HttpServer server({.host = "127.0.0.1", .longest_request = std::chrono::seconds(60)}, pages());
  std::vector<UniqueFd> slow;
  for (int i = 0; i < 100; ++i) slow.push_back(connect_to(server));
  EXPECT_EQ(read_all(slow.back()), "");
}

TEST(HttpServer, ClosesAConnectionWhoseRequestHasNoEnd) {
  HttpServer server({.host = "127.0.0.1", .longest_request = std::chrono::seconds(60)}, pages());
  const UniqueFd fd = connect_to(server);
  std::string request = "GET /metrics HTTP/1.1\r\n";
  for (int i = 0; i < 5000; ++i) request += "X-Header: some value\r\n";
  std::size_t sent = 0;
  while (sent < request.size()) {
    const ssize_t part =
        ::send(fd.get(), request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
    if (part <= 0) break;
    sent += static_cast<std::size_t>(part);
  }
  EXPECT_EQ(read_all(fd).find("holdfast_up"), std::string::npos);
}

TEST(HttpServer, AClientThatDoesNotReadIsCutOff) {
  HttpPages big = pages();
  big.metrics = [] { return std::string(64U << 20, 'x'); };
  HttpServer server({.host = "127.0.0.1", .longest_request = milliseconds(400)}, big);
  const UniqueFd fd = connect_to(server);
  const std::string request = "GET /metrics HTTP/1.1\r\n\r\n";
  ASSERT_EQ(::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(request.size()));
  std::this_thread::sleep_for(milliseconds(1500));
  EXPECT_LT(read_all(fd).size(), 64U << 20);
}

TEST(HttpServer, ALongAnswerArrivesWhole) {
  HttpPages big = pages();
  big.metrics = [] { return std::string(16U << 20, 'x'); };
  HttpServer server({.host = "127.0.0.1"}, big);
  const auto metrics = httplib::Client("127.0.0.1", server.port()).Get("/metrics");
  ASSERT_TRUE(metrics);
  EXPECT_EQ(metrics->body.size(), 16U << 20);
}

TEST(HttpServer, EndsAtOnceThoughAClientIsSlow) {
  const auto start = SteadyClock::now();
  UniqueFd slow;
  {
    HttpServer server({.host = "127.0.0.1", .longest_request = std::chrono::seconds(60)}, pages());
    slow = connect_to(server);
    std::this_thread::sleep_for(milliseconds(50));
  }
  EXPECT_LT(SteadyClock::now() - start, std::chrono::seconds(2));
}

TEST(HttpServer, RefusesAPortThatIsTaken) {
  HttpServer first({.host = "127.0.0.1"}, pages());
  EXPECT_THROW(HttpServer({.host = "127.0.0.1", .port = first.port()}, pages()), Error);
}

}  // namespace
}  // namespace holdfast::console
