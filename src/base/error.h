#pragma once

#include <chrono>
#include <exception>
#include <string>
#include <string_view>

#include "base/sqlstate.h"

namespace holdfast {

/// Whether whoever threw says that the same call may simply be made again.
enum class Retry {
  No,
  Briefly,  ///< yes, but what did not answer may well not exist: a few times are enough
  Safe,
};

/// A failure of a statement, a job or the daemon, in the parts that PostgreSQL clients show:
/// SQLSTATE, message, detail, hint. Wording follows PostgreSQL's message style guide: primary
/// message lower case, one line, no full stop; detail and hint are sentences. Secrets never enter
/// an Error.
///
///     throw Error(sqlstate::kUndefinedFile, fmt::format("backup manifest \"{}\" does not exist",
///     key))
///         .detail("Every finished backup has a manifest; it is the last object written.")
///         .hint("List the finished backups with SHOW BACKUPS IN.");
class Error : public std::exception {
 public:
  Error(SqlState state, std::string message) : state_(state), message_(std::move(message)) {}

  Error& detail(std::string text) & {
    detail_ = std::move(text);
    return *this;
  }
  Error&& detail(std::string text) && {
    detail_ = std::move(text);
    return std::move(*this);
  }
  Error& hint(std::string text) & {
    hint_ = std::move(text);
    return *this;
  }
  Error&& hint(std::string text) && {
    hint_ = std::move(text);
    return std::move(*this);
  }
  Error& retry(Retry value) & {
    retry_ = value;
    return *this;
  }
  Error&& retry(Retry value) && {
    retry_ = value;
    return std::move(*this);
  }
  /// How long whoever failed asks to be left alone before the next try.
  Error& retry_after(std::chrono::milliseconds wait) & {
    retry_after_ = wait;
    return *this;
  }
  /// Puts "`place`: " before the message, to say where on the way up it happened.
  Error& at(std::string_view place) &;
  /// 1-based character position in the statement text; 0 when there is none.
  Error& position(int characters) & {
    position_ = characters;
    return *this;
  }
  Error&& position(int characters) && {
    position_ = characters;
    return std::move(*this);
  }

  const SqlState& state() const { return state_; }
  const std::string& message() const { return message_; }
  const std::string& detail() const { return detail_; }
  const std::string& hint() const { return hint_; }
  int position() const { return position_; }
  Retry retry() const { return retry_; }
  bool retry_is_safe() const { return retry_ != Retry::No; }
  /// Zero when nothing was asked for.
  std::chrono::milliseconds retry_after() const { return retry_after_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  SqlState state_;
  std::string message_;
  std::string detail_;
  std::string hint_;
  int position_ = 0;
  Retry retry_ = Retry::No;
  std::chrono::milliseconds retry_after_{0};
};

/// Throws an Error for a failed system call: "could not <action>: <strerror>", with the SQLSTATE
/// that PostgreSQL uses for that errno (53100 for ENOSPC and EDQUOT, 58P01 for ENOENT, 42501 for
/// EACCES and EPERM, 58P02 for EEXIST, else 58030).
[[noreturn]] void throw_errno(std::string_view action, int error_number);
/// The same with the current errno.
[[noreturn]] void throw_errno(std::string_view action);

}  // namespace holdfast
