#include <fmt/format.h>

#include "base/error.h"
#include "storage/azure_client.h"
#include "storage/http_errors.h"
#include "storage/ranged_get.h"
#include "storage/versions_store.h"

namespace holdfast::storage {

namespace {

/// Source: Azure Storage REST API, List Blobs (include=versions) and Get Blob (versionid): the id
/// of a version is the time at which it was written. That a blob was removed is told nowhere: its
/// last version is not the current one, and that is all.
class AzureVersions final : public VersionSource {
 public:
  AzureVersions(const AzureOptions& options, AzureParts parts)
      : client_(options, std::move(parts)) {}

  void list(const std::function<void(ObjectVersion)>& visit, const Stop& stop) override {
    stop.check();
    client_.list(
        client_.place().full_prefix(""), {{"include", "versions"}},
        [&](const pugi::xml_node& page, ListPages& pages) {
          for (const pugi::xml_node blob : page.child("Blobs").children("Blob")) {
            visit_blob(blob, pages, visit);
          }
        },
        stop);
  }

  bool get_into(const ObjectVersion& version, std::uint64_t offset, MutableByteView into,
                const Stop& stop) override {
    stop.check();
    AzureClient::Call call{.key = client_.place().full(version.key),
                           .headers = {{"x-ms-range", range_header(offset, into.size())}},
                           .into = into};
    if (!version.id.empty()) call.query.emplace_back("versionid", version.id);
    const net::HttpResponse response = client_.send(call, stop);
    if (response.status == 404 && !AzureClient::no_container(response)) return false;
    if (!response.success()) throw AzureClient::failure("get", version.key, response);
    check_range(response, version.key, offset, into.size());
    return true;
  }

  std::string description() const override { return client_.parts().description; }

 private:
  void visit_blob(const pugi::xml_node& blob, ListPages& pages,
                  const std::function<void(ObjectVersion)>& visit) const {
    const std::string name = AzureClient::name_of(blob);
    const std::string id = blob.child_value("VersionId");
    const pugi::xml_node properties = blob.child("Properties");
    // From before versioning was turned on: as old as what it has now.
    const auto since =
        id.empty() ? parse_http_date(properties.child_value("Last-Modified")) : parse_timestamp(id);
    if (name.empty() || !since) {
      throw Error(sqlstate::kIoError, "could not list object versions: one has no name or time")
          .retry(Retry::Safe);
    }
    // A name that ends in "/" is a folder that somebody made with another tool.
    if (name.ends_with('/') || !pages.is_new(name + "#" + id)) return;
    visit({.key = client_.place().own(name),
           .id = id,
           .size = properties.child("Content-Length").text().as_ullong(),
           .since = *since});
  }

  AzureClient client_;
};

}  // namespace

std::unique_ptr<ObjectStore> open_azure_versions(const AzureOptions& options, AzureParts parts) {
  const Time at = parts.access.versions_at.value();
  return open_as_of(std::make_unique<AzureVersions>(options, std::move(parts)), at);
}

}  // namespace holdfast::storage
