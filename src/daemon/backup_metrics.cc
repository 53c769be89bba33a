#include "daemon/backup_metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "jobs/registry.h"
#include "sql/printer.h"
#include "statements/history_statements.h"

namespace holdfast::daemon {

namespace {

double seconds(Time time) { return std::chrono::duration<double>(time.time_since_epoch()).count(); }
double seconds(const std::optional<Time>& time) { return time ? seconds(*time) : 0; }

/// Source: Prometheus, text-based exposition format 0.0.4.
std::string label(std::string_view name, std::string_view value) {
  std::string text = fmt::format("{}=\"", name);
  for (const char c : value) {
    if (c == '\n') {
      text += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text + '"';
}

class Exposition {
 public:
  void family(std::string_view name, std::string_view type, std::string_view help) {
    name_ = name;
    fmt::format_to(std::back_inserter(text_), "# HELP {0} {2}\n# TYPE {0} {1}\n", name, type, help);
  }
  void sample(std::string_view labels, double value) {
    fmt::format_to(std::back_inserter(text_), "{}{} {:.3f}\n", name_,
                   labels.empty() ? "" : fmt::format("{{{}}}", labels), value);
  }
  std::string take() { return std::move(text_); }

 private:
  std::string name_;
  std::string text_;
};

std::string labels_of(const schedule::Schedule& schedule) {
  return fmt::format("{},{},{}", label("schedule_id", fmt::format("{}", schedule.id)),
                     label("label", schedule.label),
                     label("backup_type", schedule.incremental ? "incremental" : "full"));
}

void add_schedules(Exposition& out, const std::vector<schedule::Schedule>& schedules, Time now) {
  const auto each = [&](std::string_view name, std::string_view help, const auto& value) {
    out.family(name, "gauge", help);
    for (const schedule::Schedule& schedule : schedules) {
      if (const std::optional<double> v = value(schedule)) out.sample(labels_of(schedule), *v);
    }
  };
  using Value = std::optional<double>;
  using schedule::Schedule;
  each("holdfast_schedule_last_success_timestamp_seconds",
       "When a backup of this schedule last succeeded; 0: never.",
       [](const Schedule& s) -> Value { return seconds(s.last_success); });
  each("holdfast_schedule_last_success_age_seconds",
       "Time since a backup of this schedule last succeeded, or since it was created.",
       [&](const Schedule& s) -> Value {
         return seconds(now) - seconds(s.last_success.value_or(s.created));
       });
  each("holdfast_schedule_next_run_timestamp_seconds", "When it is due next; 0: paused.",
       [](const Schedule& s) -> Value { return seconds(s.next_run); });
  each("holdfast_schedule_paused", "1 while the schedule is paused.",
       [](const Schedule& s) -> Value { return s.paused ? 1 : 0; });
  each("holdfast_schedule_running_jobs", "Backups of this schedule that have not ended.",
       [](const Schedule& s) -> Value { return static_cast<double>(s.running_jobs.size()); });
  out.family("holdfast_schedule_runs_total", "counter", "Ended runs, by result.");
  for (const Schedule& s : schedules) {
    out.sample(labels_of(s) + ",result=\"success\"", static_cast<double>(s.successes));
    out.sample(labels_of(s) + ",result=\"failure\"", static_cast<double>(s.failures));
  }
  std::optional<Time> last;
  for (const Schedule& s : schedules) {
    if (s.updates_last_backup_metric) last = std::max(last, s.last_success);
  }
  out.family("holdfast_schedules_last_backup_timestamp_seconds", "gauge",
             "The last success of all schedules with updates_cluster_last_backup_time_metric.");
  out.sample("", seconds(last));
}

struct Collection {
  std::optional<state::HistoryEntry> last_success;
  std::map<std::string, int> failures;  // by SQLSTATE
};

/// Without parameters, and without a user before the host: whoever may fetch /metrics may see it.
std::string shown_collection(std::string_view uri) {
  std::string shown = sql::redact_uri(uri.substr(0, uri.find_first_of("?#")));
  const std::size_t host = shown.find("://");
  if (host == shown.npos) return shown;
  const std::size_t end = std::min(shown.find('/', host + 3), shown.size());
  const std::size_t at = shown.rfind('@', end);
  if (at != shown.npos && at > host) shown.erase(host + 3, at + 1 - (host + 3));
  return shown;
}

std::map<std::string, Collection> collections_in(const state::History& history) {
  std::map<std::string, Collection> collections;
  for (const state::HistoryEntry& entry : history.list(std::nullopt)) {
    if (entry.type != jobs::kBackupType) continue;
    const auto place = statements::place_of(entry.description, entry.statement);
    if (!place.collection) continue;
    Collection& collection = collections[shown_collection(*place.collection)];
    if (entry.succeeded()) {
      collection.last_success = entry;
    } else {
      ++collection.failures[entry.error_state.value_or("")];
    }
  }
  return collections;
}

void add_collections(Exposition& out, const std::map<std::string, Collection>& collections,
                     Time now) {
  const auto each = [&](std::string_view name, std::string_view help, const auto& value) {
    out.family(name, "gauge", help);
    for (const auto& [uri, collection] : collections) {
      if (collection.last_success) {
        out.sample(label("collection", uri), value(*collection.last_success));
      }
    }
  };
  using state::HistoryEntry;
  each("holdfast_collection_last_success_timestamp_seconds",
       "When a backup into this collection last succeeded.",
       [](const HistoryEntry& entry) { return seconds(entry.finished); });
  each("holdfast_collection_last_success_age_seconds",
       "Time since a backup into this collection last succeeded.",
       [&](const HistoryEntry& entry) { return seconds(now) - seconds(entry.finished); });
  each("holdfast_collection_last_success_duration_seconds", "How long that backup took.",
       [](const HistoryEntry& entry) { return seconds(entry.finished) - seconds(entry.started); });
  each("holdfast_collection_last_success_stored_bytes", "What that backup stored.",
       [](const HistoryEntry& entry) { return static_cast<double>(entry.result_bytes); });
  out.family("holdfast_collection_failures_total", "counter",
             "Failed and canceled backups in the history, by SQLSTATE.");
  for (const auto& [uri, collection] : collections) {
    for (const auto& [reason, count] : collection.failures) {
      out.sample(fmt::format("{},{}", label("collection", uri), label("reason", reason)), count);
    }
  }
}

}  // namespace

std::string backup_metrics(const schedule::Schedules& schedules, const state::History& history,
                           Time now) {
  Exposition out;
  add_schedules(out, schedules.list(), now);
  add_collections(out, collections_in(history), now);
  return out.take();
}

}  // namespace holdfast::daemon
