#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "net/http.h"
#include "storage/http_errors.h"
#include "storage/uri.h"

namespace holdfast::storage {

/// The URI's path: which key. Throws kInvalidParameterValue when it is empty.
std::string kms_path(const StorageUri& uri);

/// Sends what `make` makes, which may carry a new signature each time, and repeats what failed in
/// passing. The answer as JSON. Throws with `action` and what `read_error` finds in the body.
nlohmann::json ask_kms(net::HttpTransport& http,
                       const std::function<net::HttpRequest(const std::string& body)>& make,
                       const nlohmann::json& question, std::string_view action, const Stop& stop);

/// A base64 member of an answer. Throws kDataCorrupted with `action` when there is none.
Bytes kms_bytes(const nlohmann::json& answer, const char* name, std::string_view action);

}  // namespace holdfast::storage
