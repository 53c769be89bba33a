#include "storage/http_errors.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <pugixml.hpp>

namespace holdfast::storage {

namespace {

constexpr std::size_t kLongestMessage = 300;

/// A failure that passes by itself, whatever its status says.
constexpr std::array<std::string_view, 12> kPassingCodes = {
    "SlowDown", "RequestTimeout", "InternalError", "ServerBusy", "OperationAborted",
    // A put with If-None-Match met another operation. Source: Amazon S3 API, PutObject: "On a 409
    // failure you should retry the upload."
    "ConditionalRequestConflict",
    // With HTTP status 400. Source: AWS SDKs and Tools Reference Guide, "Retry behavior".
    "Throttling", "ThrottlingException", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch",
    "Md5Mismatch"};

std::string one_line(std::string_view text) {
  // Azure appends the request's id and time on lines of their own.
  std::string line(text.substr(0, std::min(text.find('\n'), kLongestMessage)));
  while (!line.empty() && (line.back() == '.' || line.back() == ' ' || line.back() == '\r')) {
    line.pop_back();
  }
  return line;
}

SqlState state_of(int status, const ServiceError& said) {
  if (status == 507 || said.code == "XMinioStorageFull") return sqlstate::kDiskFull;
  if (status == 401 || status == 403) return sqlstate::kInsufficientPrivilege;
  if (status == 404) return sqlstate::kUndefinedFile;
  return sqlstate::kIoError;
}

bool passes(int status, const ServiceError& said) {
  if (status == 408 || status == 429) return true;
  if (status >= 500 && status != 501 && status != 505 && status != 507) return true;
  return std::find(kPassingCodes.begin(), kPassingCodes.end(), said.code) != kPassingCodes.end();
}

}  // namespace

ServiceError parse_xml_error(ByteView body) {
  pugi::xml_document document;
  // Azure's answers begin with a byte order mark, which pugixml knows.
  if (!document.load_buffer(body.data(), body.size())) return {};
  pugi::xml_node error = document.child("Error");
  // STS puts it one level deeper.
  if (!error) error = document.child("ErrorResponse").child("Error");
  return {.code = error.child_value("Code"), .message = one_line(error.child_value("Message"))};
}

ServiceError parse_json_error(ByteView body) {
  const auto document = nlohmann::json::parse(as_text(body), nullptr, false);
  if (!document.is_object() || !document.contains("error")) return {};
  const auto text = [](const nlohmann::json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  const nlohmann::json& error = document["error"];
  if (error.is_string()) {
    return {.code = error.get<std::string>(),
            .message = one_line(text(document, "error_description"))};
  }
  if (!error.is_object()) return {};
  return {.code = text(error, "status"), .message = one_line(text(error, "message"))};
}

Error http_error(std::string_view action, const net::HttpResponse& response,
                 const ServiceError& said) {
  std::string why = said.message.empty() ? said.code : said.message;
  if (why.empty()) why = "the server gives no reason";
  Error error(state_of(response.status, said),
              fmt::format("{}: {} (HTTP status {}{}{})", action, why, response.status,
                          said.code.empty() ? "" : ", ", said.code));
  if (passes(response.status, said)) {
    error.retry(Retry::Safe).retry_after(retry_after(response, Clock::system().now()));
  }
  return error;
}

std::chrono::milliseconds retry_after(const net::HttpResponse& response, Time now) {
  const std::string_view text = response.header("retry-after");
  unsigned seconds = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (failed == std::errc() && end == text.data() + text.size()) {
    return std::chrono::seconds(std::min(seconds, 86400U));
  }
  const std::optional<Time> date = parse_http_date(text);
  if (!date || *date <= now) return std::chrono::milliseconds(0);
  return std::chrono::ceil<std::chrono::milliseconds>(*date - now);
}

std::optional<Time> parse_http_date(std::string_view text) {
  // Source: RFC 9110, section 5.6.7. The daemon runs in the C locale for dates.
  const std::string date(text);
  std::tm utc{};
  const char* end = ::strptime(date.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &utc);
  if (end == nullptr || *end != '\0') return std::nullopt;
  return Time(std::chrono::seconds(::timegm(&utc)));
}

std::string format_http_date(Time time) {
  const std::time_t seconds =
      std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count();
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  return fmt::format("{:%a, %d %b %Y %H:%M:%S GMT}", utc);
}

}  // namespace holdfast::storage
