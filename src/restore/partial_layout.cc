#include "restore/partial_layout.h"

#include <fmt/core.h>

#include <set>
#include <string_view>

#include "postgres/scope_files.h"

namespace holdfast::restore {
namespace {

using collection::proto::Manifest;

bool wanted(const collection::proto::File& file, const postgres::WalScope& scope) {
  if (file.kind() == collection::proto::FILE_KIND_EXTERNAL_CONFIG) return false;
  return postgres::file_in_scope(file.path(), scope);
}

}  // namespace

Layout make_private_layout(const Manifest& manifest, const std::string& root,
                           const std::string& tablespaces) {
  LayoutRequest request{.root = root, .final_root = root};
  for (const auto& space : manifest.tablespaces()) {
    if (!space.location().starts_with('/')) continue;
    auto& mapping = request.tablespace_mapping.emplace_back();
    mapping.set_from(std::to_string(space.oid()));
    mapping.set_to(fmt::format("{}/{}", tablespaces, space.oid()));
  }
  return make_layout(manifest, request);
}

Layout make_partial_layout(const Manifest& manifest, const std::string& root,
                           const std::string& tablespaces, const postgres::WalScope& scope) {
  Layout layout = make_private_layout(manifest, root, tablespaces);
  layout.partial = true;
  // Whoever runs the workshop alone may look at it.
  layout.root_mode = 0700;
  std::vector<FileTarget> files;
  std::set<std::string> used;
  for (std::size_t i = 0; i < layout.files.size(); ++i) {
    if (!wanted(manifest.files(static_cast<int>(i)), scope)) continue;
    files.push_back(std::move(layout.files[i]));
    files.back().mode = 0600;
  }
  layout.files = std::move(files);
  std::erase_if(layout.directories, [&](const DirectoryTarget& directory) {
    if (!directory.path.starts_with(root + "/")) return false;
    return !postgres::directory_in_scope(std::string_view(directory.path).substr(root.size() + 1),
                                         scope);
  });
  for (auto& directory : layout.directories) directory.mode = 0700;
  return layout;
}

}  // namespace holdfast::restore
