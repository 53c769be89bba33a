#include <fmt/format.h>

#include "base/error.h"
#include "storage/gcs_client.h"
#include "storage/json_text.h"
#include "storage/ranged_get.h"
#include "storage/versions_store.h"

namespace holdfast::storage {

namespace {

/// A member of an object that is text; empty when there is none.
/// Source: Cloud Storage JSON API, Objects (generation, timeCreated, timeDeleted), list (versions)
/// and get (generation).
class GcsVersions final : public VersionSource {
 public:
  GcsVersions(const GcsOptions& options, GcsParts parts) : client_(options, std::move(parts)) {}

  void list(const std::function<void(ObjectVersion)>& visit, const Stop& stop) override {
    stop.check();
    client_.list(
        client_.place().full_prefix(""),
        {{"versions", "true"},
         {"fields", "items(name,size,generation,timeCreated,timeDeleted),nextPageToken"}},
        [&](const nlohmann::json& page, ListPages& pages) {
          for (const auto& item : page.value("items", nlohmann::json::array())) {
            visit_item(item, pages, visit);
          }
        },
        stop);
  }

  bool get_into(const ObjectVersion& version, std::uint64_t offset, MutableByteView into,
                const Stop& stop) override {
    stop.check();
    const net::HttpResponse response =
        client_.send({.path = client_.object_path(version.key),
                      .query = {{"alt", "media"}, {"generation", version.id}},
                      .headers = {{"Range", range_header(offset, into.size())}},
                      .into = into},
                     stop);
    if (response.status == 404) return client_.exists_not(response);
    if (!response.success()) throw GcsClient::failure("get", version.key, response);
    check_range(response, version.key, offset, into.size());
    return true;
  }

  std::string description() const override { return client_.parts().description; }

 private:
  void visit_item(const nlohmann::json& item, ListPages& pages,
                  const std::function<void(ObjectVersion)>& visit) const {
    const std::string name = json_text(item, "name");
    const std::string generation = json_text(item, "generation");
    const auto size = GcsClient::number_of(item, "size");
    const auto created = parse_timestamp(json_text(item, "timeCreated"));
    const std::string deleted = json_text(item, "timeDeleted");
    if (name.empty() || generation.empty() || !size || !created) {
      throw Error(sqlstate::kIoError,
                  "could not list object versions: one has no name, generation, size or time")
          .retry(Retry::Safe);
    }
    // A name that ends in "/" is a folder that somebody made with another tool.
    if (name.ends_with('/') || !pages.is_new(name + "#" + generation)) return;
    ObjectVersion version{.key = client_.place().own(name),
                          .id = generation,
                          .size = *size,
                          .since = *created,
                          .until = parse_timestamp(deleted)};
    if (!deleted.empty() && !version.until) {
      throw Error(sqlstate::kIoError,
                  fmt::format("could not list object versions: \"{}\" is no time", deleted))
          .retry(Retry::Safe);
    }
    visit(std::move(version));
  }

  GcsClient client_;
};

}  // namespace

std::unique_ptr<ObjectStore> open_gcs_versions(const GcsOptions& options, GcsParts parts) {
  const Time at = parts.access.versions_at.value();
  return open_as_of(std::make_unique<GcsVersions>(options, std::move(parts)), at);
}

}  // namespace holdfast::storage
