#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <string>
#include <vector>

#include "base/error.h"
#include "net/http.h"

namespace holdfast::net {

/// Answers requests from a script, in order, and keeps what was asked. For one thread.
class ScriptedHttp : public HttpTransport {
 public:
  struct Asked {
    std::string line;  ///< "GET https://host/path?query"
    HttpHeaders headers;
    std::string body;
    bool without_proxy = false;

    std::string header(std::string_view name) const {
      for (const auto& [sent, value] : headers) {
        if (sent == name) return value;
      }
      return "";
    }
  };

  ~ScriptedHttp() override { EXPECT_TRUE(script_.empty()) << "not asked: " << script_[0].line; }

  /// `line` is how the request begins.
  ScriptedHttp& answer(const std::string& line, int status, std::string_view body,
                       HttpHeaders headers = {}) {
    const ByteView bytes = as_bytes(body);
    script_.push_back({line,
                       {.status = status,
                        .headers = std::move(headers),
                        .body = Bytes(bytes.begin(), bytes.end()),
                        .body_bytes = bytes.size()},
                       true});
    return *this;
  }
  /// Nobody listens there.
  ScriptedHttp& no_answer(const std::string& line) {
    script_.push_back({line, {}, false});
    return *this;
  }

  HttpResponse send(const HttpRequest& request, const Stop& stop) override {
    stop.check();
    Asked asked = {.line = std::string(to_string(request.method)) + " " + request.url,
                   .headers = request.headers,
                   .body = {},
                   .without_proxy = request.without_proxy};
    for (const ByteView part : request.body) asked.body += as_text(part);
    if (script_.empty() || !asked.line.starts_with(script_.front().line)) {
      ADD_FAILURE() << "asked " << asked.line << "\ninstead of "
                    << (script_.empty() ? "nothing" : script_.front().line);
      throw Error(sqlstate::kInternalError, "not in the script");
    }
    Step step = std::move(script_.front());
    script_.pop_front();
    asked_.push_back(std::move(asked));
    if (!step.answers) throw Error(sqlstate::kConnectionFailure, "nobody listens");
    if (request.into && step.response.success()) {
      const Bytes body = std::move(step.response.body);
      std::copy_n(body.begin(), std::min(body.size(), request.into->size()), request.into->begin());
      step.response.body.clear();
    }
    return step.response;
  }

  const std::vector<Asked>& asked() const { return asked_; }

 private:
  struct Step {
    std::string line;
    HttpResponse response;
    bool answers = true;
  };
  std::deque<Step> script_;
  std::vector<Asked> asked_;
};

}  // namespace holdfast::net
