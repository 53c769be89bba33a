#include "storage/azure_client.h"

#include <fmt/format.h>

#include "storage/http_errors.h"
#include "storage/percent.h"

namespace holdfast::storage {

namespace {

/// Its Put Blob takes up to 5000 MiB, so that an object is always one request.
constexpr std::string_view kApiVersion = "2021-08-06";

}  // namespace

AzureClient::AzureClient(const AzureOptions& options, AzureParts parts)
    : options_(options),
      place_(options.prefix),
      parts_(std::move(parts)),
      auth_(make_azure_auth(options.auth, options.account, parts_.environment)) {}

net::HttpResponse AzureClient::send(const Call& call, const Stop& stop) {
  const std::string origin = net::origin_of(options_.endpoint);
  std::string path =
      options_.endpoint.substr(origin.size()) + "/" + percent_encode(options_.container);
  if (!call.key.empty()) path += "/" + percent_encode_path(call.key);
  AzureRequest request = {.method = call.method,
                          .path = path,
                          .query = call.query,
                          .headers = call.headers,
                          .body_bytes = call.body.size()};
  request.headers.emplace_back("x-ms-version", kApiVersion);
  request.headers.emplace_back("x-ms-date", format_http_date(parts_.environment.clock->now()));
  auth_->authorize(request, stop);
  const std::string query = canonical_query(request.query);
  net::HttpRequest sent = {.method = call.method,
                           .url = origin + path + (query.empty() ? "" : "?") + query,
                           .headers = std::move(request.headers),
                           .into = call.into};
  if (!call.body.empty()) sent.body.push_back(call.body);
  net::HttpResponse response = parts_.http->send(sent, stop);
  if (response.status == 401 && auth_->reject()) {
    throw Error(sqlstate::kInsufficientPrivilege, "the storage credentials have expired")
        .retry(Retry::Safe);
  }
  return response;
}

void AzureClient::list(const std::string& full_prefix, const QueryParameters& query,
                       const std::function<void(const pugi::xml_node&, ListPages&)>& visit,
                       const Stop& stop) {
  ListPages pages;
  std::string marker;
  do {
    QueryParameters asked = query;
    asked.emplace_back("restype", "container");
    asked.emplace_back("comp", "list");
    // An empty prefix parameter is refused by some stores.
    if (!full_prefix.empty()) asked.emplace_back("prefix", full_prefix);
    if (!marker.empty()) asked.emplace_back("marker", marker);
    const net::HttpResponse response = send({.query = std::move(asked)}, stop);
    if (!response.success()) throw failure("list", full_prefix, response);
    pugi::xml_document document;
    // White space at the ends of names counts.
    const bool parsed = document.load_buffer(response.body.data(), response.body.size(),
                                             pugi::parse_default | pugi::parse_ws_pcdata_single);
    const pugi::xml_node page = document.child("EnumerationResults");
    if (!parsed || !page) {
      throw Error(sqlstate::kIoError,
                  fmt::format("could not list \"{}\": the answer is not a list", full_prefix))
          .retry(Retry::Safe);
    }
    visit(page, pages);
    marker = page.child_value("NextMarker");
    if (!marker.empty()) pages.next(marker, fmt::format("\"{}\"", full_prefix));
  } while (!marker.empty());
}

/// Names that XML cannot hold are percent-encoded, which an attribute says.
std::string AzureClient::name_of(const pugi::xml_node& entry) {
  const pugi::xml_node name = entry.child("Name");
  const std::string_view text = name.child_value();
  if (!name.attribute("Encoded").as_bool()) return std::string(text);
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = text[i] == '%' ? from_hex(text.substr(i + 1, 2)) : std::nullopt;
    decoded.push_back(byte && byte->size() == 1 ? static_cast<char>(byte->front()) : text[i]);
    if (byte && byte->size() == 1) i += 2;
  }
  return decoded;
}

/// Answers to HEAD have it in a header only.
std::string AzureClient::code_of(const net::HttpResponse& response) {
  const std::string_view code = response.header("x-ms-error-code");
  return code.empty() ? parse_xml_error(response.body).code : std::string(code);
}

bool AzureClient::no_container(const net::HttpResponse& response) {
  return code_of(response) == "ContainerNotFound";
}

Error AzureClient::failure(std::string_view verb, const std::string& key,
                           const net::HttpResponse& response) {
  return http_error(fmt::format("could not {} object \"{}\"", verb, key), response,
                    {.code = code_of(response), .message = parse_xml_error(response.body).message});
}

}  // namespace holdfast::storage
