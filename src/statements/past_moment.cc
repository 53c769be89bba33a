#include "statements/past_moment.h"

#include <fmt/format.h>

#include <chrono>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/moment.h"
#include "statements/as_of.h"

namespace holdfast::statements {

namespace {

using collection::Moment;
using collection::MomentFinder;
using collection::proto::Manifest;

/// An archive says at least this often what an idle server did not do.
constexpr std::chrono::minutes kJustOver{5};
constexpr std::chrono::seconds kArchivePatience{30};

/// Absent for what is no time: an LSN or a restore point.
std::optional<Time> time_of(const sql::Expression& as_of, Time now) {
  using Kind = sql::Expression::Kind;
  if (as_of.kind == Kind::Lsn || as_of.kind == Kind::RestorePoint) return std::nullopt;
  return as_of_time(as_of, now);
}

Time end_time(const Manifest& layer) { return time_from_us(layer.end_time_us()); }

/// CockroachDB's words (reference, section 3.4).
Error not_later(const std::string& moment, const std::string& end) {
  return Error(sqlstate::kInvalidParameterValue,
               fmt::format("`AS OF SYSTEM TIME` {} must be greater than the previous backup's end "
                           "time of {}.",
                           moment, end));
}

/// A moment that is only just over may not be in the archive yet, or, of an idle server, not be
/// known to be complete.
Moment find_in(const PastRequest& request, const std::vector<Manifest>& layers,
               const backup::proto::BackupJobSpec& spec, const Stop& stop) {
  const auto find = [&] {
    return find_moment(request.as_of,
                       MomentFinder(request.store, layers, stop, collection::MomentFor::Backup),
                       request.now);
  };
  try {
    return find();
  } catch (const Error& error) {
    const auto time = time_of(request.as_of, request.now);
    if (error.state() != sqlstate::kInvalidParameterValue || request.archives == nullptr || !time ||
        request.now - *time > kJustOver ||
        !request.archives->catch_up(spec.collection_uri(), kArchivePatience, stop)) {
      throw;
    }
    log::debug("the archive has caught up with the moment of the backup");
  }
  return find();
}

}  // namespace

void require_past(const sql::Expression& as_of, Time now) {
  const auto time = time_of(as_of, now);
  if (!time || *time <= now) return;
  throw Error(sqlstate::kInvalidParameterValue,
              fmt::format("AS OF SYSTEM TIME: cannot specify timestamp in the future ({} > {})",
                          format_timestamptz(*time), format_timestamptz(now)));
}

void set_past_moment(const PastRequest& request, backup::proto::BackupJobSpec& spec,
                     const Stop& stop) {
  const auto layers = collection::read_manifests(
      request.store, collection::list_layers(request.store, spec.full(), stop), stop);
  const Manifest& latest = collection::latest_layer(layers);
  const auto time = time_of(request.as_of, request.now);
  if (time && *time <= end_time(latest)) {
    throw not_later(format_timestamptz(*time), format_timestamptz(end_time(latest)));
  }
  const Moment moment = find_in(request, layers, spec, stop);
  const auto latest_stop = postgres::Lsn{latest.stop().position()};
  const bool behind = moment.target && moment.target->end > latest_stop;
  if (moment.layer != latest.subdirectory() || (!time && !behind)) {
    throw not_later(request.as_of.source, format_timestamptz(end_time(latest)))
        .detail(fmt::format("The chain's latest layer, \"{}\", ends at {} on timeline {}.",
                            latest.subdirectory(), to_string(latest_stop),
                            latest.stop().timeline()));
  }
  auto& past = *spec.mutable_as_of();
  past.set_layer(moment.layer);
  const Time end =
      time ? *time : MomentFinder(request.store, layers, stop).last_commit_before(moment);
  past.set_time_us(end.time_since_epoch().count());
  if (!moment.target) return;
  past.set_timeline(moment.target->timeline);
  past.set_record(moment.target->record.value);
  past.set_end(moment.target->end.value);
}

}  // namespace holdfast::statements
