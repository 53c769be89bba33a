#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/error.h"
#include "net/http.h"

namespace holdfast::storage {

/// What a storage service says in the body of an answer that is no success. Empty where it says
/// nothing.
struct ServiceError {
  std::string code;     ///< "SlowDown"
  std::string message;  ///< one line, shortened
};

/// Reads <Error><Code/><Message/></Error>, as S3 and Azure send it.
ServiceError parse_xml_error(ByteView body);
/// Reads {"error": {"message": …, "status": …}} and {"error": "…", "error_description": "…"}, as
/// Google and OAuth servers send it.
ServiceError parse_json_error(ByteView body);

/// The Error for an answer that is no success: `action` reads like "could not put object \"k\"".
/// Says whether another try is safe, and how long the server wants it to wait.
Error http_error(std::string_view action, const net::HttpResponse& response,
                 const ServiceError& said);

/// The server's Retry-After, in seconds or as a date. Zero when it has none.
std::chrono::milliseconds retry_after(const net::HttpResponse& response, Time now);

/// "Fri, 24 May 2013 00:00:00 GMT"; absent when it is no such date.
std::optional<Time> parse_http_date(std::string_view text);
std::string format_http_date(Time time);

}  // namespace holdfast::storage
