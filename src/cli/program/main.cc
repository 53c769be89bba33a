#include <fmt/format.h>

#include <algorithm>
#include <CLI/CLI.hpp>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "base/version.h"
#include "cli/sql_client.h"
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

  CLI::App* parsing = &app;
  try {
    app.parse(argc, argv);
    CLI::App* chosen = start->parsed() ? start : sql->parsed() ? sql : wal_fetch;
    parsing = start->parsed() ? &start_app : sql->parsed() ? &sql_app : &fetch_app;
    parse_rest(*parsing, *chosen);
  } catch (const CLI::ParseError& error) {
    const int status = parsing->exit(error);
    // Whatever is wrong with its arguments must not look like the end of WAL.
    return parsing == &fetch_app && status != 0 ? 126 : status;
  }
  if (wal_fetch->parsed()) return holdfast::cli::run_wal_fetch(fetch);
  if (start->parsed()) return holdfast::daemon::run_daemon(configuration);
  return holdfast::cli::run_sql_client(client, std::cin, std::cout, std::cerr);
}
