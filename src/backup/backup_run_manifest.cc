// What a backup says of itself.
#include <algorithm>
#include <utility>

#include "backup/backup_run.h"
#include "backup/backup_run_internal.h"
#include "backup/base_layer.h"
#include "backup/scope.h"
#include "backup/whole_segments.h"
#include "base/log.h"
#include "collection/collection.h"
#include "postgres/catalog.h"

namespace holdfast::backup {

namespace manifest = collection::proto;

manifest::CatalogObject to_proto(const postgres::CatalogEntry& entry) {
  manifest::CatalogObject out;
  out.set_database(entry.database);
  out.set_schema(entry.schema);
  out.set_name(entry.name);
  out.set_type(std::string(to_string(entry.kind)));
  out.set_oid(entry.oid);
  out.set_database_oid(entry.database_oid);
  out.set_schema_oid(entry.schema_oid);
  out.set_size_bytes(entry.size_bytes);
  out.set_rows(entry.rows);
  out.set_owner(entry.owner);
  for (const std::string& grant : entry.grants) out.add_grants(grant);
  return out;
}

void BackupRun::describe_layer() {
  manifest_.set_revision_history(spec_.revision_history());
  manifest_.set_type(base_ ? manifest::BACKUP_TYPE_INCREMENTAL : manifest::BACKUP_TYPE_FULL);
  if (!base_) return;
  manifest_.set_full(spec_.full());
  refer_to(*base_, *manifest_.mutable_base());
}

void BackupRun::describe_instance() {
  manifest_.set_holdfast_version(environment_.holdfast_version);
  manifest_.set_backup_uuid(uuid_.data(), uuid_.size());
  manifest_.set_job_id(job_.id());
  describe_layer();
  manifest_.set_scope(manifest::SCOPE_CLUSTER);  // a scope is stored when all of it is known
  manifest_.set_subdirectory(spec_.subdirectory());
  manifest_.set_compression(compression_of(spec_).print());
  auto& instance = *manifest_.mutable_instance();
  instance.set_system_identifier(control_.system_identifier);
  instance.set_server_version_num(static_cast<std::uint32_t>(server_.server_version_num));
  instance.set_server_version(server_.server_version);
  instance.set_control_version(control_.control_version);
  instance.set_catalog_version(control_.catalog_version);
  instance.set_block_bytes(control_.block_bytes);
  instance.set_relation_segment_blocks(control_.relation_segment_blocks);
  instance.set_wal_segment_bytes(control_.wal_segment_bytes);
  instance.set_data_checksum_version(control_.data_checksum_version);
  instance.set_node_id(environment_.node_id);
  instance.set_locality(environment_.locality);
  instance.set_data_directory(environment_.data_directory.string());
}

void BackupRun::list_catalog() {
  enter("listing the catalog");
  const auto listing = postgres::list_catalog(connect_options(), stop_);
  std::int64_t rows = 0;
  for (const auto& entry : listing.entries) *manifest_.add_objects() = to_proto(entry);
  if (scoped()) {
    keep_objects_in_scope(spec_.scope(),
                          list_scope(connect_options(), spec_.scope(), ScopeMoment::End, stop_),
                          manifest_);
  }
  for (const auto& object : manifest_.objects()) rows += std::max<std::int64_t>(object.rows(), 0);
  for (const auto& unlisted : listing.unlisted) {
    log::info("the tables of database \"{}\" are not listed: {}", unlisted.database,
              unlisted.reason);
  }
  log::debug("listed {} objects, rows={}", manifest_.objects_size(), rows);
}

void describe_copy(CopyState& copy, manifest::Manifest& layer) {
  for (const auto& directory : copy.files.directories()) {
    auto& out = *layer.add_directories();
    out.set_path(directory.path);
    out.set_mode(directory.mode);
  }
  copy.files.store(layer);
  copy.hashes.store(copy.files, layer);
  layer.set_next_file_id(copy.files.next_id());
  std::uint64_t stored = 0;
  for (auto& pack : copy.ledger.packs()) {
    stored += pack.size();
    *layer.add_packs() = std::move(pack);
  }
  layer.set_plain_bytes(copy.files.total_bytes());
  layer.set_stored_bytes(stored);
  layer.set_read_bytes(copy.bytes_read);
}

void BackupRun::write_manifest() {
  enter("writing the manifest");
  describe_copy(copy_, manifest_);
  collection::require_key_stored(*store_, keys_, stop_);
  collection::require_lock(*store_, spec_.subdirectory(), job_.id(), stop_);
  // As late as can be: from here on only those could remove it who have not looked for new layers
  // since before this one took its lock.
  require_segments(*store_, manifest_, stop_);
  collection::write_manifest(*store_, spec_.subdirectory(), manifest_, stop_);
  written_ = true;
}

}  // namespace holdfast::backup
