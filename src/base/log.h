#pragma once

#include <fmt/core.h>

#include <string>
#include <string_view>

namespace holdfast::log {

enum class Level { Debug, Info, Warning, Error };

/// Absent names give false. Names: debug, info, warning, error.
bool set_level(std::string_view name);
bool enabled(Level level);
/// One line on standard error: time, level, the thread's tag, message. Control characters in
/// `message` are escaped, so that nothing from outside can forge a line. Never give it secrets.
void write(Level level, std::string_view message);

/// Tags every line of this thread, such as "job=42" or "session=7", until the end of the scope.
class ThreadTag {
 public:
  explicit ThreadTag(std::string tag);
  ~ThreadTag();
  ThreadTag(const ThreadTag&) = delete;
  ThreadTag& operator=(const ThreadTag&) = delete;

 private:
  std::string previous_;
};
std::string thread_tag();

template <typename... Args>
void debug(fmt::format_string<Args...> text, Args&&... args) {
  if (enabled(Level::Debug)) write(Level::Debug, fmt::format(text, std::forward<Args>(args)...));
}
template <typename... Args>
void info(fmt::format_string<Args...> text, Args&&... args) {
  if (enabled(Level::Info)) write(Level::Info, fmt::format(text, std::forward<Args>(args)...));
}
template <typename... Args>
void warning(fmt::format_string<Args...> text, Args&&... args) {
  if (enabled(Level::Warning))
    write(Level::Warning, fmt::format(text, std::forward<Args>(args)...));
}
template <typename... Args>
void error(fmt::format_string<Args...> text, Args&&... args) {
  write(Level::Error, fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace holdfast::log
