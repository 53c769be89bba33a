#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "net/testing/scripted_http.h"
#include "storage/cloud_environment.h"

namespace holdfast::storage {

class FixedClock : public Clock {
 public:
  Time now() const override { return time; }
  Time time = std::chrono::sys_days(std::chrono::year(2026) / 11 / 25);
};

/// Hands a transport that a test keeps to a store that wants to own one.
class BorrowedHttp : public net::HttpTransport {
 public:
  explicit BorrowedHttp(net::HttpTransport& real) : real_(real) {}
  net::HttpResponse send(const net::HttpRequest& request, const Stop& stop) override {
    return real_.send(request, stop);
  }

 private:
  net::HttpTransport& real_;
};

/// A machine with the environment variables and files that a test gives it, and scripted services.
class CloudTest : public testing::Test {
 protected:
  CloudEnvironment environment() {
    return {.http = &http_,
            .clock = &clock_,
            .variable = [this](const char* name) { return variables_[name]; },
            .file = [this](const std::string& path) -> std::optional<std::string> {
              const auto found = files_.find(path);
              if (found == files_.end()) return std::nullopt;
              return found->second;
            }};
  }

  net::ScriptedHttp http_;
  FixedClock clock_;
  std::map<std::string, std::string> variables_;
  std::map<std::string, std::string> files_;
  Stop stop_ = Stop::never();
};

}  // namespace holdfast::storage
