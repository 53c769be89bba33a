#include "console/http_server.h"

#include <gtest/gtest.h>
#include <httplib.h>

#include "base/error.h"

namespace holdfast::console {
namespace {

HttpPages pages() {
  return {.health = [] { return HttpPages::Health{.healthy = true, .json = R"({"status":"ok"})"}; },
          .metrics = [] { return std::string("holdfast_up 1\n"); }};
}

TEST(HttpServer, AnswersHealthAndMetrics) {
  HttpServer server("127.0.0.1", 0, pages());
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
  HttpServer server("127.0.0.1", 0, sick);
  auto health = httplib::Client("127.0.0.1", server.port()).Get("/health");
  ASSERT_TRUE(health);
  EXPECT_EQ(health->status, 503);
}

TEST(HttpServer, APageThatThrowsIsA500AndTheServerGoesOn) {
  HttpPages broken = pages();
  broken.metrics = []() -> std::string { throw Error(sqlstate::kIoError, "no figures"); };
  HttpServer server("127.0.0.1", 0, broken);
  httplib::Client client("127.0.0.1", server.port());
  auto metrics = client.Get("/metrics");
  ASSERT_TRUE(metrics);
  EXPECT_EQ(metrics->status, 500);
  auto health = client.Get("/health");
  ASSERT_TRUE(health);
  EXPECT_EQ(health->status, 200);
}

TEST(HttpServer, RefusesAPortThatIsTaken) {
  HttpServer first("127.0.0.1", 0, pages());
  EXPECT_THROW(HttpServer("127.0.0.1", first.port(), pages()), Error);
}

}  // namespace
}  // namespace holdfast::console
