#pragma once

#include <string>

namespace holdfast::cli {

/// What `holdfast wal-fetch` was asked for.
struct WalFetchOptions {
  /// Lines of NAME=VALUE: collection, external-io-dir, node-id, system-identifier and
  /// wal-segment-size. It holds the collection's credentials, so nobody else may read it.
  std::string config;
  std::string name;    ///< %f: a segment or a history file
  std::string target;  ///< %p
  /// Only fill the spool with what follows `name`; a child of an ordinary call does this.
  bool prefetch = false;
};

/// A restore_command: brings one file out of the collection's WAL archive, without the daemon.
///
/// Gives 0 when the file is at `target`, 1 when the archive has no such file (recovery then ends,
/// or goes on elsewhere), and 126 for every failure: PostgreSQL aborts recovery for it instead of
/// taking it for the end of WAL. For the last segment, the beginning that the archive has is filled
/// up with zeros. Segments that follow are fetched ahead into "<config>.spool".
int run_wal_fetch(const WalFetchOptions& options);

}  // namespace holdfast::cli
