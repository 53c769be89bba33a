#include "sql/printer.h"

#include <fmt/format.h>

#include "sql/lexer.h"
#include "sql/redact_internal.h"

namespace holdfast::sql {
namespace {

class Printer {
 public:
  explicit Printer(Redact redact) : redact_(redact) {}

  std::string take() { return std::move(out_); }

  void operator()(const Backup& s) {
    put("BACKUP").targets(s.targets).put(" INTO ");
    if (s.onto) subdirectory(*s.onto).put(" IN ");
    uris(s.into, Secret::Uri).as_of(s.as_of).options(s.options);
  }
  void operator()(const Restore& s) {
    put("RESTORE").targets(s.targets).put(" FROM ").subdirectory(s.from).put(" IN ");
    uris(s.in, Secret::Uri).as_of(s.as_of).options(s.options);
  }
  void operator()(const VerifyBackup& s) {
    put("VERIFY BACKUP FROM ").subdirectory(s.from).put(" IN ");
    uris(s.in, Secret::Uri).as_of(s.as_of).options(s.options);
  }
  void operator()(const ShowBackups& s) {
    put("SHOW BACKUPS IN ").uris(s.in, Secret::Uri);
    if (s.newer_than) put(" NEWER THAN ").expression(*s.newer_than);
    if (s.older_than) put(" OLDER THAN ").expression(*s.older_than);
    options(s.options);
  }
  void operator()(const ShowBackup& s) {
    static constexpr std::string_view kWhat[] = {"",        "SCHEMAS ",  "FILES ",
                                                 "RANGES ", "VALIDATE ", "WINDOWS "};
    put("SHOW BACKUP ").put(kWhat[static_cast<int>(s.what)]).put("FROM ").subdirectory(s.from);
    put(" IN ").uris(s.in, Secret::Uri).options(s.options);
  }
  void operator()(const ShowJobs& s) {
    static constexpr std::string_view kForm[] = {"SHOW JOBS",
                                                 "SHOW AUTOMATIC JOBS",
                                                 "SHOW JOBS",
                                                 "SHOW JOBS FOR SCHEDULE",
                                                 "SHOW JOBS FOR SCHEDULES",
                                                 "SHOW JOB",
                                                 "SHOW CHANGEFEED JOBS"};
    put(kForm[static_cast<int>(s.form)]).put(s.when_complete ? " WHEN COMPLETE" : "");
    ids(s.id, s.select).options(s.options);
  }
  void operator()(const JobControl& s) {
    static constexpr std::string_view kAction[] = {"PAUSE", "RESUME", "CANCEL"};
    static constexpr std::string_view kTarget[] = {" JOB", " JOBS", " JOBS FOR SCHEDULE",
                                                   " JOBS FOR SCHEDULES", " ALL "};
    static constexpr std::string_view kType[] = {"BACKUP", "RESTORE", "CHANGEFEED", "IMPORT"};
    put(kAction[static_cast<int>(s.action)]).put(kTarget[static_cast<int>(s.target)]);
    if (s.target == JobControl::Target::AllOfType) {
      put(kType[static_cast<int>(s.type)]).put(" JOBS");
    }
    ids(s.id, s.select);
    if (s.reason) put(" WITH REASON = ").text(*s.reason);
  }
  void operator()(const AlterJobOwner& s) {
    put("ALTER JOB ").expression(s.job).put(" OWNER TO ").put(quote_identifier(s.owner));
  }
  void operator()(const AlterBackupKeys& s) {
    put("ALTER BACKUP ");
    if (s.subdirectory) subdirectory(*s.subdirectory).put(" IN ");
    text(s.in).put(" ADD NEW_").backup_keys(s.added);
    put(" WITH OLD_").backup_keys(s.old);
  }
  void operator()(const CreateSchedule& s) {
    put("CREATE SCHEDULE ").put(s.if_not_exists ? "IF NOT EXISTS " : "");
    if (s.label) text(*s.label).put(" ");
    put("FOR BACKUP").targets(s.targets).put(" INTO ").uris(s.into, Secret::Uri);
    options(s.options).put(" RECURRING ").text(s.recurring);
    if (s.full_backup) put(" ").full_backup(*s.full_backup);
    if (!s.schedule_options.empty()) {
      put(" WITH SCHEDULE OPTIONS (").option_list(s.schedule_options).put(")");
    }
  }
  void operator()(const AlterBackupSchedule& s) {
    put(fmt::format("ALTER BACKUP SCHEDULE {}", s.id));
    std::string_view before = " ";
    auto command = [&](std::string_view words) -> Printer& {
      put(before).put(words);
      before = ", ";
      return *this;
    };
    if (s.label) command("SET LABEL ").text(*s.label);
    if (!s.into.empty()) command("SET INTO ").uris(s.into, Secret::Uri);
    for (const Option& option : s.options.list) command("SET WITH ").one_option(option);
    if (s.recurring) command("SET RECURRING ").text(*s.recurring);
    if (s.full_backup) command("SET ").full_backup(*s.full_backup);
    for (const Option& option : s.schedule_options.list) {
      command("SET SCHEDULE OPTION ").one_option(option);
    }
    if (s.execute == AlterBackupSchedule::Execute::Now) command("EXECUTE IMMEDIATELY");
    if (s.execute == AlterBackupSchedule::Execute::FullNow) command("EXECUTE FULL IMMEDIATELY");
  }
  void operator()(const ShowSchedules& s) {
    static constexpr std::string_view kState[] = {"", "RUNNING ", "PAUSED "};
    static constexpr std::string_view kFor[] = {"", " FOR BACKUP", " FOR SQL STATISTICS",
                                                " FOR CHANGEFEED"};
    if (s.id) {
      put("SHOW SCHEDULE ").expression(*s.id);
    } else {
      put("SHOW ").put(kState[static_cast<int>(s.state)]).put("SCHEDULES");
      put(kFor[static_cast<int>(s.type)]);
    }
  }
  void operator()(const ShowCreateSchedule& s) {
    if (s.id) {
      put("SHOW CREATE SCHEDULE ").expression(*s.id);
    } else {
      put("SHOW CREATE ALL SCHEDULES");
    }
  }
  void operator()(const ScheduleControl& s) {
    static constexpr std::string_view kAction[] = {"PAUSE", "RESUME", "DROP", "EXECUTE"};
    put(kAction[static_cast<int>(s.action)]).put(s.id ? " SCHEDULE" : " SCHEDULES");
    ids(s.id, s.select);
  }
  void operator()(const CreateExternalConnection& s) {
    put("CREATE EXTERNAL CONNECTION ").put(s.if_not_exists ? "IF NOT EXISTS " : "").name(s.name);
    put(" AS ").text(s.uri);
  }
  void operator()(const AlterExternalConnection& s) {
    put("ALTER EXTERNAL CONNECTION ").put(s.if_exists ? "IF EXISTS " : "").name(s.name);
    put(" AS ").text(s.uri);
  }
  void operator()(const DropExternalConnection& s) {
    put("DROP EXTERNAL CONNECTION ").name(s.name);
  }
  void operator()(const ShowExternalConnections& s) {
    if (s.name) {
      put("SHOW EXTERNAL CONNECTION ").name(*s.name);
    } else {
      put("SHOW EXTERNAL CONNECTIONS");
    }
  }
  void operator()(const ShowCreateExternalConnections& s) {
    if (s.name) {
      put("SHOW CREATE EXTERNAL CONNECTION ").name(*s.name);
    } else {
      put("SHOW CREATE ALL EXTERNAL CONNECTIONS");
    }
  }
  void operator()(const GrantOnConnection& s) {
    const bool grants = s.action == GrantOnConnection::Action::Grant;
    put(grants ? "GRANT" : "REVOKE");
    std::string_view before = " ";
    for (const std::string& privilege : s.privileges) {
      put(before);
      for (const char c : privilege) out_ += static_cast<char>(c - 'a' + 'A');
      before = ", ";
    }
    put(" ON EXTERNAL CONNECTION").names(s.connections);
    put(grants ? " TO" : " FROM").names(s.roles);
  }
  void operator()(const ClearBackupHistory& s) {
    put("CLEAR BACKUP_HISTORY");
    if (s.what == ClearBackupHistory::What::One) put(fmt::format(" backup_id = {}", s.backup_id));
    if (s.what == ClearBackupHistory::What::Success) put(" SUCCESS");
    if (s.what == ClearBackupHistory::What::Failure) put(" FAILURE");
  }
  void operator()(const InformationSchemaView& s) {
    static constexpr std::string_view kView[] = {"mv_backup_history", "mv_backup_status",
                                                 "mv_milestones"};
    put("information_schema.").put(kView[static_cast<int>(s.view)]);
  }
  void operator()(const DeleteBackups& s) {
    put("DELETE BACKUPS");
    if (s.older_than) put(" OLDER THAN ").expression(*s.older_than);
    if (s.keep_fulls) put(fmt::format(" KEEP {} FULLS", *s.keep_fulls));
    put(" IN ").uris(s.in, Secret::Uri).options(s.options);
  }
  void operator()(const SingleStoreBackup& s) {
    static constexpr std::string_view kMode[] = {"", " WITH INIT", " WITH DIFFERENTIAL",
                                                 " WITH SPLIT PARTITIONS"};
    put("BACKUP DATABASE ").put(quote_identifier(s.database));
    put(kMode[static_cast<int>(s.mode)]).put(" TO ").place(s.place);
    if (s.timeout_ms) put(fmt::format(" TIMEOUT {}", *s.timeout_ms));
    access(s.place).resource_pool(s.resource_pool);
    if (!s.tags.empty()) put(" TAGS (").texts(s.tags).put(")");
  }
  void operator()(const SingleStoreRestore& s) {
    put("RESTORE DATABASE ").put(quote_identifier(s.database));
    if (s.new_name) put(" AS ").put(quote_identifier(*s.new_name));
    put(" FROM ").place(s.place).access(s.place);
    if (s.file) put(fmt::format(" WITH FILE = {}", *s.file));
    const auto sync = [&](const std::optional<bool>& wait, std::string_view what) {
      if (wait) put(*wait ? " WITH SYNC " : " WITH ASYNC ").put(what);
    };
    sync(s.sync_durability, "DURABILITY");
    sync(s.sync_replication, "REPLICATION");
    resource_pool(s.resource_pool);
  }
  void operator()(const CreateMilestone& s) {
    put("CREATE MILESTONE");
    if (s.name) put(" ").text(*s.name);
    if (s.database) put(" FOR ").put(quote_identifier(*s.database));
  }
  void operator()(const ShowMilestones& s) {
    put("SHOW MILESTONES IN ").uris(s.in, Secret::Uri).options(s.options);
  }
  void operator()(const CreateWalArchive& s) {
    put("CREATE WAL ARCHIVE IN ").text(s.uri).options(s.options);
  }
  void operator()(const DropWalArchive& s) { put("DROP WAL ARCHIVE IN ").text(s.uri); }
  void operator()(const ShowWalArchives&) { put("SHOW WAL ARCHIVES"); }
  void operator()(const CheckExternalConnection& s) {
    put("CHECK EXTERNAL CONNECTION ").text(s.uri).options(s.options);
  }

  Printer& option_list(const Options& options) {
    std::string_view before = "";
    for (const Option& option : options.list) {
      put(before).one_option(option);
      before = ", ";
    }
    return *this;
  }

 private:
  Printer& put(std::string_view text) {
    out_ += text;
    return *this;
  }

  /// A string. One that should be no URI is still looked at as one: people put them anywhere.
  Printer& text(const Text& text, Secret secret = Secret::Uri) {
    if (text.parameter) return put(fmt::format("${}", *text.parameter));
    if (redact_ == Redact::Nothing) return put(quote_literal(text.value));
    if (secret == Secret::Yes) return put(quote_literal(kHidden));
    return put(quote_literal(secret == Secret::KmsUri ? redact_kms_uri(text.value)
                                                      : redact_uri(text.value)));
  }

  Printer& name(const Text& name) {
    return put(name.parameter ? fmt::format("${}", *name.parameter) : quote_identifier(name.value));
  }

  void names(const std::vector<std::string>& names) {
    std::string_view before = " ";
    for (const std::string& one : names) {
      put(before).put(quote_identifier(one));
      before = ", ";
    }
  }

  Printer& backup_keys(const BackupKeys& keys) {
    if (keys.passphrase) return put("PASSPHRASE = ").text(*keys.passphrase, Secret::Yes);
    return put("KMS = ").uris(keys.kms, Secret::KmsUri);
  }
  Printer& uris(const Uris& uris, Secret secret) {
    if (uris.size() == 1) return text(uris.front(), secret);
    std::string_view before = "(";
    for (const Text& uri : uris) {
      put(before).text(uri, secret);
      before = ", ";
    }
    return put(")");
  }

  Printer& texts(const std::vector<Text>& texts) {
    std::string_view before = "";
    for (const Text& one : texts) {
      put(before).text(one);
      before = ", ";
    }
    return *this;
  }

  Printer& place(const SingleStorePlace& place) {
    static constexpr std::string_view kKind[] = {"", "S3 ", "GCS ", "AZURE "};
    return put(kKind[static_cast<int>(place.kind)]).text(place.location);
  }

  /// CONFIG may hold a key of the customer's; CREDENTIALS is nothing but secrets.
  Printer& access(const SingleStorePlace& place) {
    if (place.config) put(" CONFIG ").text(*place.config, Secret::Yes);
    if (place.credentials) put(" CREDENTIALS ").text(*place.credentials, Secret::Yes);
    return *this;
  }

  Printer& resource_pool(const std::optional<std::string>& pool) {
    if (pool) put(" (OPTION resource_pool = ").put(quote_identifier(*pool)).put(")");
    return *this;
  }

  Printer& source(const std::string& source) {
    return put(redact_ == Redact::Secrets ? redact_source(source, Strings::Keep) : source);
  }
  Printer& expression(const Expression& expression) { return source(expression.source); }

  Printer& ids(const std::optional<Expression>& id, const std::optional<Query>& select) {
    if (id) put(" ").expression(*id);
    if (select) put(" ").source(select->source);
    return *this;
  }

  Printer& as_of(const std::optional<Expression>& moment) {
    if (moment) put(" AS OF SYSTEM TIME ").expression(*moment);
    return *this;
  }

  Printer& subdirectory(const Subdirectory& subdirectory) {
    return subdirectory.latest ? put("LATEST") : text(subdirectory.path);
  }

  Printer& full_backup(const FullBackup& full) {
    put("FULL BACKUP ");
    return full.always ? put("ALWAYS") : text(full.recurrence);
  }

  Printer& targets(const Targets& targets) {
    std::string_view before = " ";
    switch (targets.kind) {
      case Targets::Kind::Cluster:
        break;
      case Targets::Kind::SystemUsers:
        put(" SYSTEM USERS");
        break;
      case Targets::Kind::VirtualCluster:
        put(" VIRTUAL CLUSTER ").virtual_cluster(targets.virtual_cluster);
        break;
      case Targets::Kind::Databases:
        put(" DATABASE");
        for (const std::string& database : targets.databases) {
          put(before).put(quote_identifier(database));
          before = ", ";
        }
        break;
      case Targets::Kind::Tables:
        put(" TABLE");
        for (const TablePattern& pattern : targets.tables) {
          put(before).table(pattern);
          before = ", ";
        }
        break;
    }
    return *this;
  }

  void virtual_cluster(const std::string& id) {
    bool number = !id.empty() && id.front() >= '0' && id.front() <= '9';
    put(number ? id : quote_identifier(id));
  }

  void table(const TablePattern& pattern) {
    std::string_view before = "";
    for (const std::string& part : pattern.parts) {
      put(before).put(quote_identifier(part));
      before = ".";
    }
    if (pattern.wildcard) put(before).put("*");
  }

  Printer& options(const Options& options) {
    if (!options.empty()) put(" WITH OPTIONS (").option_list(options).put(")");
    return *this;
  }

  Printer& one_option(const Option& option) {
    const OptionSpec& spec = *find_option(option.name, ~0u);
    put(option.name);
    if (spec.type == OptionType::BooleanValue) return put(option.enabled ? " = true" : " = false");
    if (option.values.empty()) return put(option.enabled ? "" : " = false");
    put(" = ");
    const Text& first = option.values.front();
    switch (spec.type) {
      case OptionType::UriList:
        return uris(option.values, spec.secret);
      case OptionType::Integer:
        return first.parameter ? text(first) : put(first.value);
      default:
        return text(first, spec.secret);
    }
  }

  Redact redact_;
  std::string out_;
};

}  // namespace

std::string print(const Statement& statement, Redact redact) {
  Printer printer(redact);
  std::visit(printer, statement);
  return printer.take();
}

std::string print(const Options& options, Redact redact) {
  Printer printer(redact);
  printer.option_list(options);
  return printer.take();
}

std::string shown(const TablePattern& pattern) {
  std::string text = fmt::format("{}", fmt::join(pattern.parts, "."));
  if (pattern.wildcard) text += text.empty() ? "*" : ".*";
  return text;
}

}  // namespace holdfast::sql
