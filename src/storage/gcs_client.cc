#include "storage/gcs_client.h"

#include <fmt/format.h>

#include <charconv>

#include "storage/http_errors.h"
#include "storage/percent.h"

namespace holdfast::storage {

GcsClient::GcsClient(const GcsOptions& options, GcsParts parts)
    : options_(options),
      place_(options.prefix),
      parts_(std::move(parts)),
      token_(make_gcs_token(options.auth, parts_.environment)) {}

std::string GcsClient::object_path(const ObjectKey& key) const {
  return fmt::format("/storage/v1/b/{}/o/{}", percent_encode(options_.bucket),
                     percent_encode(place_.full(key)));
}

std::string GcsClient::upload_path() const {
  return fmt::format("/upload/storage/v1/b/{}/o", percent_encode(options_.bucket));
}

net::HttpResponse GcsClient::send(Call call, const Stop& stop) {
  if (!options_.billing_project.empty()) {
    call.query.emplace_back("userProject", options_.billing_project);
  }
  call.headers.emplace_back("Authorization", "Bearer " + token_->get(stop));
  const std::string query = canonical_query(std::move(call.query));
  net::HttpResponse response =
      parts_.http->send({.method = call.method,
                         .url = options_.endpoint + call.path + (query.empty() ? "" : "?") + query,
                         .headers = std::move(call.headers),
                         .body = std::move(call.body),
                         .into = call.into},
                        stop);
  if (response.status == 401 && options_.auth.bearer_token.empty()) {
    token_->reject();
    throw Error(sqlstate::kInsufficientPrivilege, "the storage credentials have expired")
        .retry(Retry::Safe);
  }
  return response;
}

void GcsClient::list(const std::string& full_prefix, const QueryParameters& query,
                     const std::function<void(const nlohmann::json&, ListPages&)>& visit,
                     const Stop& stop) {
  ListPages pages;
  std::string token;
  do {
    QueryParameters asked = query;
    asked.emplace_back("prefix", full_prefix);
    if (!token.empty()) asked.emplace_back("pageToken", token);
    const net::HttpResponse response =
        send({.path = fmt::format("/storage/v1/b/{}/o", percent_encode(options_.bucket)),
              .query = std::move(asked)},
             stop);
    if (!response.success()) throw failure("list", full_prefix, response);
    const auto page = nlohmann::json::parse(as_text(response.body), nullptr, false);
    if (!page.is_object()) {
      throw Error(sqlstate::kIoError,
                  fmt::format("could not list \"{}\": the answer is not a list", full_prefix))
          .retry(Retry::Safe);
    }
    visit(page, pages);
    token = page.value("nextPageToken", "");
    if (!token.empty()) pages.next(token, fmt::format("\"{}\"", full_prefix));
  } while (!token.empty());
}

bool GcsClient::exists_not(const net::HttpResponse& response) const {
  const std::string message = parse_json_error(response.body).message;
  if (message.find("bucket does not exist") == std::string::npos) return false;
  throw Error(sqlstate::kUndefinedFile,
              fmt::format("bucket \"{}\" does not exist", options_.bucket));
}

Error GcsClient::failure(std::string_view verb, const std::string& key,
                         const net::HttpResponse& response) {
  return http_error(fmt::format("could not {} object \"{}\"", verb, key), response,
                    parse_json_error(response.body));
}

std::optional<std::uint64_t> GcsClient::number_of(const nlohmann::json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) return std::nullopt;
  if (found->is_number_unsigned()) return found->get<std::uint64_t>();
  if (!found->is_string()) return std::nullopt;
  const auto& text = found->get_ref<const std::string&>();
  std::uint64_t number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace holdfast::storage
