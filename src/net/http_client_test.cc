#include "net/http_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "base/error.h"
#include "net/testing/raw_http_server.h"

namespace holdfast::net {
namespace {

using testing::HasSubstr;

class HttpClientTest : public ::testing::Test {
 protected:
  HttpClientTest() : client_({.stall_timeout = std::chrono::seconds(1)}) {}

  Error error_of(const HttpRequest& request) {
    try {
      client_.send(request, stop_);
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "no error";
    return Error(sqlstate::kInternalError, "none");
  }

  HttpClient client_;
  Stop stop_ = Stop::never();
};

TEST_F(HttpClientTest, SendsAndReceives) {
  RawHttpServer server([](const std::string& request) {
    return RawAnswer{http_answer(
        request.starts_with("PUT /a%20b?x=1 HTTP/1.1\r\n") ? "201 Created" : "400 Bad Request",
        "done", "X-Mark:  yes \r\n")};
  });
  const HttpResponse response = client_.send({.method = HttpMethod::Put,
                                              .url = server.url("/a%20b?x=1"),
                                              .headers = {{"X-Sent", "value"}, {"X-Empty", ""}},
                                              .body = {as_bytes("one "), as_bytes("two")}},
                                             stop_);
  EXPECT_EQ(response.status, 201);
  EXPECT_TRUE(response.success());
  EXPECT_EQ(response.header("x-mark"), "yes");
  EXPECT_EQ(as_text(response.body), "done");
  const std::string request = server.requests().front();
  EXPECT_THAT(request, HasSubstr("\r\nX-Sent: value\r\n"));
  EXPECT_THAT(request, HasSubstr("\r\nX-Empty:\r\n"));
  EXPECT_THAT(request, HasSubstr("\r\nContent-Length: 7\r\n"));
  EXPECT_THAT(request, testing::EndsWith("\r\n\r\none two"));
}

TEST_F(HttpClientTest, FillsTheCallersBuffer) {
  RawHttpServer server([](const std::string&) {
    return RawAnswer{http_answer("206 Partial Content", "0123456789")};
  });
  Bytes into(10);
  const HttpResponse response = client_.send({.url = server.url(), .into = into}, stop_);
  EXPECT_EQ(response.body_bytes, 10U);
  EXPECT_TRUE(response.body.empty());
  EXPECT_EQ(as_text(into), "0123456789");
  into.resize(9);
  EXPECT_THAT(error_of({.url = server.url(), .into = into}).message(), HasSubstr("more bytes"));
}

TEST_F(HttpClientTest, KeepsTheBodyOfAFailureApart) {
  RawHttpServer server(
      [](const std::string&) { return RawAnswer{http_answer("404 Not Found", "<Error/>")}; });
  Bytes into(2);
  const HttpResponse response = client_.send({.url = server.url(), .into = into}, stop_);
  EXPECT_EQ(response.status, 404);
  EXPECT_EQ(as_text(response.body), "<Error/>");
}

TEST_F(HttpClientTest, UsesOneConnectionForManyRequests) {
  RawHttpServer server([](const std::string&) { return RawAnswer{http_answer("200 OK", "x")}; });
  for (int i = 0; i < 5; ++i) client_.send({.url = server.url()}, stop_);
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(HttpClientTest, WorksFromManyThreads) {
  RawHttpServer server([](const std::string&) { return RawAnswer{http_answer("200 OK", "x")}; });
  std::atomic<int> answers = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 10; ++n) answers += client_.send({.url = server.url()}, stop_).success();
    });
  }
  threads.clear();
  EXPECT_EQ(answers, 40);
  EXPECT_LE(server.connections(), 4);
}

TEST_F(HttpClientTest, ABrokenAnswerMayBeAskedForAgain) {
  const RawAnswer answers[] = {
      {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123", RawAnswer::Then::Close},
      {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123", RawAnswer::Then::Reset},
      {"", RawAnswer::Then::Close},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n",
       RawAnswer::Then::Close},
      {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123", RawAnswer::Then::Stall}};
  for (const RawAnswer& answer : answers) {
    SCOPED_TRACE(answer.bytes);
    RawHttpServer server([&](const std::string&) { return answer; });
    Bytes into(10);
    const Error error = error_of({.url = server.url("/k?sig=hush"), .into = into});
    EXPECT_EQ(error.state(), sqlstate::kConnectionFailure);
    EXPECT_TRUE(error.retry_is_safe()) << error.message();
    EXPECT_EQ(error.message().find("hush"), std::string::npos) << error.message();
  }
}

TEST_F(HttpClientTest, NeverSendsAPutTwiceByItself) {
  for (const std::string_view body : {"a body", ""}) {
    std::atomic<int> puts = 0;
    RawHttpServer server([&](const std::string& request) {
      if (request.starts_with("GET")) return RawAnswer{http_answer("200 OK", "")};
      ++puts;
      return RawAnswer{"", RawAnswer::Then::Reset};
    });
    client_.send({.url = server.url()}, stop_);
    const Error error =
        error_of({.method = HttpMethod::Put, .url = server.url(), .body = {as_bytes(body)}});
    EXPECT_TRUE(error.retry_is_safe()) << error.message();
    EXPECT_EQ(puts, 1) << "with a body of " << body.size() << " bytes";
  }
}

// Values of a storage URI become headers: a session token, a project to bill.
TEST_F(HttpClientTest, AHeaderCannotSmuggleAnother) {
  for (const char* value : {"x\r\nX-Other: y", "x\ny", "\r"}) {
    const Error error = error_of({.url = "http://127.0.0.1:1/", .headers = {{"X-Sent", value}}});
    EXPECT_EQ(error.message(), "the value for the HTTP header \"X-Sent\" has a control character");
    EXPECT_EQ(error.state(), sqlstate::kInvalidParameterValue);
  }
}

TEST_F(HttpClientTest, NobodyListens) {
  std::string url;
  {
    RawHttpServer server([](const std::string&) { return RawAnswer{}; });
    url = server.url();
  }
  EXPECT_TRUE(error_of({.url = url}).retry_is_safe());
}

TEST_F(HttpClientTest, AStopEndsAStall) {
  StopSource source;
  RawHttpServer server([&](const std::string&) {
    source.request(StopReason::Cancel);
    return RawAnswer{"", RawAnswer::Then::Stall};
  });
  HttpClient patient({.stall_timeout = std::chrono::seconds(3600)});
  EXPECT_THROW(patient.send({.url = server.url()}, source.stop()), Stopped);
}

TEST_F(HttpClientTest, FollowsRedirectsOnlyWhenTold) {
  RawHttpServer server([&](const std::string& request) {
    return request.starts_with("GET /new ")
               ? RawAnswer{http_answer("200 OK", "here")}
               : RawAnswer{http_answer("302 Found", "", "Location: /new\r\n")};
  });
  EXPECT_EQ(client_.send({.url = server.url("/old")}, stop_).status, 302);
  const HttpResponse response =
      client_.send({.url = server.url("/old"), .follow_redirects = true}, stop_);
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(as_text(response.body), "here");
}

TEST(OriginOf, LeavesOutWhatMayBeSecret) {
  EXPECT_EQ(origin_of("https://host:9000/bucket/key?sig=hush"), "https://host:9000");
  EXPECT_EQ(origin_of("https://user:hush@host?x"), "https://host");
  EXPECT_EQ(origin_of("http://host/a@b"), "http://host");
}

}  // namespace
}  // namespace holdfast::net
