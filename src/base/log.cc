#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <utility>

namespace holdfast::log {

namespace {

thread_local std::string current_tag;

spdlog::logger& logger() {
  static const auto instance = [] {
    auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    auto made = std::make_unique<spdlog::logger>("holdfast", std::move(sink));
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %-7l %v", spdlog::pattern_time_type::utc);
    return made;
  }();
  return *instance;
}

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::Debug:
      return spdlog::level::debug;
    case Level::Info:
      return spdlog::level::info;
    case Level::Warning:
      return spdlog::level::warn;
    case Level::Error:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

std::string one_line(std::string_view message) {
  std::string line;
  line.reserve(message.size());
  for (char c : message) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      line += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      line += c;
    }
  }
  return line;
}

}  // namespace

bool set_level(std::string_view name) {
  static constexpr std::pair<std::string_view, spdlog::level::level_enum> kNames[] = {
      {"debug", spdlog::level::debug},
      {"info", spdlog::level::info},
      {"warning", spdlog::level::warn},
      {"error", spdlog::level::err}};
  for (const auto& [known, level] : kNames) {
    if (known == name) {
      logger().set_level(level);
      return true;
    }
  }
  return false;
}

bool enabled(Level level) { return logger().should_log(to_spdlog(level)); }

void write(Level level, std::string_view message) {
  std::string line = one_line(message);
  if (current_tag.empty()) {
    logger().log(to_spdlog(level), "{}", line);
  } else {
    logger().log(to_spdlog(level), "{} {}", current_tag, line);
  }
}

ThreadTag::ThreadTag(std::string tag) : previous_(std::exchange(current_tag, std::move(tag))) {}
ThreadTag::~ThreadTag() { current_tag = std::move(previous_); }

std::string thread_tag() { return current_tag; }

}  // namespace holdfast::log
