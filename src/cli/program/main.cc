#include <fmt/format.h>

#include <algorithm>
#include <CLI/CLI.hpp>
#include <cstdlib>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "base/version.h"
#include "cli/sql_client.h"
#include "cli/userfile.h"
#include "cli/wal_fetch.h"
#include "daemon/configuration.h"
#include "daemon/daemon.h"

namespace {

constexpr const char* kAbout =
    "Backup and restore as SQL for PostgreSQL.\n"
    "Run \"holdfast start\" beside PostgreSQL, then connect with psql and say BACKUP INTO '…'.";

std::string default_url() {
  const char* from_environment = std::getenv("HOLDFAST_URL");
  if (from_environment != nullptr) return from_environment;
  return "host=127.0.0.1 port=26257 dbname=postgres";
}

/// A subcommand whose arguments another CLI::App parses: only a whole App reads a configuration
/// file.
CLI::App* add_subcommand(CLI::App& app, const char* name, const char* about) {
  CLI::App* subcommand = app.add_subcommand(name, about);
  subcommand->prefix_command();
  subcommand->set_help_flag();
  return subcommand;
}

void parse_rest(CLI::App& app, const CLI::App& subcommand) {
  std::vector<std::string> arguments = subcommand.remaining();
  std::ranges::reverse(arguments);  // CLI11 takes them from the back
  app.parse(arguments);
}

void declare_userfile(CLI::App& app, holdfast::cli::UserfileOptions& options) {
  using Command = holdfast::cli::UserfileOptions::Command;
  app.require_subcommand(1);
  app.fallthrough();
  app.add_option("--url", options.url,
                 "Connection string of the daemon or of PostgreSQL (also HOLDFAST_URL)");
  app.add_option("-u,--user", options.user, "Connect as this user");
  app.add_option("--certs-dir", options.certs_dir,
                 "Directory of ca.crt, client.<user>.crt and client.<user>.key");
  app.add_option("--cert-principal-map", options.cert_principal_map,
                 "Users whose certificates have other names: cert-principal:db-principal,…");
  app.add_flag("--echo-sql", options.echo_sql, "Show the statements that are sent");
  const auto add = [&](const char* name, const char* about, Command command) {
    CLI::App* subcommand = app.add_subcommand(name, about);
    subcommand->callback([&options, command] { options.command = command; });
    return subcommand;
  };
  CLI::App* upload = add("upload", "Copy a file, or a directory, into the tables", Command::Upload);
  upload->add_option("source", options.source, "A file or directory")->required();
  upload->add_option("destination", options.pattern,
                     "A path or userfile:// URI; by default the source's name");
  upload->add_flag("-r,--recursive", options.recursive, "The source is a directory");
  CLI::App* list = add("list", "List the files that match", Command::List)->alias("ls");
  list->add_option("pattern", options.pattern, "A path, pattern or userfile:// URI");
  CLI::App* get = add("get", "Copy the files that match out of the tables", Command::Get);
  get->add_option("pattern", options.pattern, "A path, pattern or userfile:// URI")->required();
  get->add_option("destination", options.destination, "A file or directory");
  CLI::App* remove = add("delete", "Delete the files that match", Command::Delete)->alias("rm");
  remove->add_option("pattern", options.pattern, "A path, pattern or userfile:// URI")->required();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(kAbout, "holdfast");
  app.set_version_flag("--version", fmt::format("holdfast {}", holdfast::kVersion));
  app.require_subcommand(1);
  CLI::App* start = add_subcommand(
      app, "start", "Run the daemon beside a PostgreSQL instance (holdfast start --help)");
  CLI::App* sql = add_subcommand(
      app, "sql", "Send statements to a running daemon; psql does as well (holdfast sql --help)");

  CLI::App* wal_fetch = add_subcommand(
      app, "wal-fetch", "A restore_command: bring WAL out of a collection's archive");

  CLI::App* userfile = add_subcommand(
      app, "userfile", "Move files into and out of userfile storage (holdfast userfile --help)");

  holdfast::daemon::Configuration configuration;
  CLI::App start_app("Run the daemon beside a PostgreSQL instance", "holdfast start");
  configuration.declare(start_app);

  holdfast::cli::SqlClientOptions client{.url = default_url(), .statements = {}};
  CLI::App sql_app("Send statements to a running daemon", "holdfast sql");
  sql_app.add_option("--url", client.url,
                     "Connection string of the daemon, as for psql (also HOLDFAST_URL)");
  sql_app.add_option("-e,--execute", client.statements,
                     "Execute this and exit; may be given several times");

  holdfast::cli::WalFetchOptions fetch;
  CLI::App fetch_app(
      "Bring WAL out of a collection's archive, as restore_command = 'holdfast wal-fetch --config "
      "FILE %f %p'",
      "holdfast wal-fetch");
  fetch_app
      .add_option("--config", fetch.config, "Names the collection; only the owner may read it")
      ->required();
  fetch_app.add_flag("--prefetch", fetch.prefetch)->group("");
  fetch_app.add_option("name", fetch.name, "%f")->required();
  fetch_app.add_option("path", fetch.target, "%p")->required();

  holdfast::cli::UserfileOptions files;
  files.url = default_url();
  CLI::App files_app("Move files into and out of userfile storage: tables in PostgreSQL",
                     "holdfast userfile");
  declare_userfile(files_app, files);

  CLI::App* parsing = &app;
  try {
    app.parse(argc, argv);
    const std::pair<CLI::App*, CLI::App*> subcommands[] = {
        {start, &start_app}, {sql, &sql_app}, {wal_fetch, &fetch_app}, {userfile, &files_app}};
    for (const auto& [chosen, its_app] : subcommands) {
      if (!chosen->parsed()) continue;
      parsing = its_app;
      parse_rest(*parsing, *chosen);
    }
  } catch (const CLI::ParseError& error) {
    const int status = parsing->exit(error);
    // Whatever is wrong with its arguments must not look like the end of WAL.
    return parsing == &fetch_app && status != 0 ? 126 : status;
  }
  if (wal_fetch->parsed()) return holdfast::cli::run_wal_fetch(fetch);
  if (start->parsed()) return holdfast::daemon::run_daemon(configuration);
  if (userfile->parsed()) return holdfast::cli::run_userfile(files, std::cout, std::cerr);
  return holdfast::cli::run_sql_client(client, std::cin, std::cout, std::cerr);
}
