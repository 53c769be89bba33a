#include "postgres/wal_position.h"

#include <fmt/core.h>

#include "base/error.h"

namespace holdfast::postgres {
namespace {

// pg_walfile_name() gives the timeline that is written now; pg_control_checkpoint() only that of
// the last checkpoint, which a promotion leaves behind for a while. Asked five times a second:
// pg_settings would make a row of every setting each time.
constexpr const char* kAsk = R"sql(
SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()),
       CASE WHEN NOT r THEN pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()) END,
       (SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver),
       CASE WHEN r THEN pg_catalog.pg_last_wal_receive_lsn()
            ELSE pg_catalog.pg_current_wal_flush_lsn() END,
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')),
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_slot_wal_keep_size')),
       s.slot_name, s.restart_lsn, s.wal_status, r,
       CASE WHEN NOT r THEN pg_catalog.pg_current_wal_insert_lsn() END
  FROM (SELECT pg_catalog.pg_is_in_recovery() AS r) x
  LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = $1 AND s.slot_type = 'physical'
)sql";

}  // namespace

std::optional<WalPosition> wal_position(Connection& connection, const std::string& slot,
                                        const Stop& stop) {
  const QueryResult row = connection.query(kAsk, {slot}, stop);
  WalPosition position;
  position.system_identifier = static_cast<std::uint64_t>(row.integer(0, 0));
  const auto flushed = parse_lsn(row.text(0, 3));
  position.wal_segment_bytes = static_cast<std::uint64_t>(row.integer(0, 4));
  if (row.boolean(0, 9)) {
    position.timeline = static_cast<TimelineId>(row.integer(0, 2));
  } else {
    const auto segment = parse_wal_segment_name(row.text(0, 1), position.wal_segment_bytes);
    if (!segment) {
      throw Error(sqlstate::kInternalError,
                  fmt::format("\"{}\" is no name of a WAL segment", row.text(0, 1)));
    }
    position.timeline = segment->timeline;
  }
  if (!flushed || position.timeline == 0) return std::nullopt;
  position.flushed = *flushed;
  if (row.value(0, 10)) position.inserted = parse_lsn(row.text(0, 10));
  if (row.integer(0, 5) >= 0) {
    position.slot_limit = static_cast<std::uint64_t>(row.integer(0, 5));
  }
  if (row.value(0, 6)) {
    position.slot = SlotState{.restart = parse_lsn(row.text(0, 7)).value_or(Lsn{}),
                              .wal_status = row.text(0, 8)};
  }
  return position;
}

void advance_physical_slot(Connection& connection, const std::string& name, Lsn lsn,
                           const Stop& stop) {
  connection.query(
      "SELECT pg_catalog.pg_replication_slot_advance(slot_name, GREATEST(restart_lsn, $2::pg_lsn))"
      // A slot is made at the last checkpoint's start, up to where not all may be flushed yet.
      " FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND restart_lsn <= CASE"
      " WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()"
      " ELSE pg_catalog.pg_current_wal_flush_lsn() END",
      {name, to_string(lsn)}, stop);
}

}  // namespace holdfast::postgres
