#include "postgres/backup_session.h"

#include <fmt/core.h>

#include <charconv>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "postgres/versions.h"

namespace holdfast::postgres {
namespace {

Lsn require_lsn(const std::string& text) {
  const auto lsn = parse_lsn(text);
  if (!lsn) {
    throw Error(sqlstate::kProtocolViolation,
                fmt::format("server returned \"{}\" where a WAL position was expected", text));
  }
  return *lsn;
}

// "START TIMELINE: 3" gives "3" for the name "START TIMELINE".
std::optional<std::string_view> find_line(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    const auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.starts_with(name) && line.substr(name.size()).starts_with(": ")) {
      return line.substr(name.size() + 2);
    }
  }
  return std::nullopt;
}

Lsn leading_lsn(std::string_view text) {
  const auto lsn = parse_lsn(text.substr(0, text.find(' ')));
  return lsn.value_or(Lsn{});
}

}  // namespace

// Source: PostgreSQL src/backend/access/transam/xlogbackup.c (build_backup_content), the same lines
// in 13 and 14's xlog.c.
BackupLabel parse_backup_label(const std::string& text) {
  BackupLabel label;
  label.start = leading_lsn(find_line(text, "START WAL LOCATION").value_or(""));
  label.checkpoint = leading_lsn(find_line(text, "CHECKPOINT LOCATION").value_or(""));
  label.from_standby = find_line(text, "BACKUP FROM").value_or("") == "standby";
  const auto timeline = find_line(text, "START TIMELINE").value_or("");
  const auto result =
      std::from_chars(timeline.data(), timeline.data() + timeline.size(), label.timeline);
  if (!label.start.valid() || !label.checkpoint.valid() || result.ec != std::errc() ||
      label.timeline == 0) {
    throw Error(sqlstate::kDataCorrupted, "backup label is malformed")
        .detail("It names no start position, checkpoint or timeline.");
  }
  return label;
}

BackupSession BackupSession::start(Connection connection, const BackupSessionOptions& options,
                                   const Stop& stop) {
  const VersionFacts& facts = version_facts(connection.server_major());
  BackupSession session(std::move(connection));
  session.from_standby_ =
      session.connection_.query("SELECT pg_catalog.pg_is_in_recovery()", stop).boolean(0, 0);
  const std::string call = facts.has_pg_backup_start
                               ? "SELECT pg_catalog.pg_backup_start($1, $2::boolean)"
                               : "SELECT pg_catalog.pg_start_backup($1, $2::boolean, false)";
  const QueryResult started = session.connection_.query(
      call, {options.label, options.fast_checkpoint ? "true" : "false"}, stop);
  session.start_ = require_lsn(started.text(0, 0));
  // The server has just written this checkpoint (or, on a standby, restored to it) into its control
  // file; finish() compares with what the label says.
  session.timeline_ = static_cast<TimelineId>(
      session.connection_.query("SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()", stop)
          .integer(0, 0));
  return session;
}

BackupStopped BackupSession::finish(const Stop& stop) {
  const VersionFacts& facts = version_facts(connection_.server_major());
  const std::string call =
      facts.has_pg_backup_start
          ? "SELECT lsn, labelfile, spcmapfile FROM pg_catalog.pg_backup_stop(false)"
          : "SELECT lsn, labelfile, spcmapfile FROM pg_catalog.pg_stop_backup(false, false)";
  const QueryResult result = connection_.query(call, stop);
  BackupStopped stopped;
  stopped.stop = require_lsn(result.text(0, 0));
  stopped.backup_label = result.text(0, 1);
  stopped.tablespace_map = result.text(0, 2);
  const BackupLabel label = parse_backup_label(stopped.backup_label);
  stopped.timeline = label.timeline;
  if (label.start != start_ || label.timeline != timeline_) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                "the backup's start position changed while it ran")
        .detail(
            fmt::format("It was started at {} on timeline {}; its label says {} on timeline {}.",
                        to_string(start_), timeline_, to_string(label.start), label.timeline))
        .hint("Take the backup again.");
  }
  return stopped;
}

}  // namespace holdfast::postgres
