#include <fmt/format.h>

#include <algorithm>
#include <CLI/CLI.hpp>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "base/version.h"
#include "cli/sql_client.h"
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

  holdfast::daemon::Configuration configuration;
  CLI::App start_app("Run the daemon beside a PostgreSQL instance", "holdfast start");
  configuration.declare(start_app);

  holdfast::cli::SqlClientOptions client{.url = default_url(), .statements = {}};
  CLI::App sql_app("Send statements to a running daemon", "holdfast sql");
  sql_app.add_option("--url", client.url,
                     "Connection string of the daemon, as for psql (also HOLDFAST_URL)");
  sql_app.add_option("-e,--execute", client.statements,
                     "Execute this and exit; may be given several times");

  CLI::App* parsing = &app;
  try {
    app.parse(argc, argv);
    parsing = start->parsed() ? &start_app : &sql_app;
    parse_rest(*parsing, start->parsed() ? *start : *sql);
  } catch (const CLI::ParseError& error) {
    return parsing->exit(error);
  }
  if (start->parsed()) return holdfast::daemon::run_daemon(configuration);
  return holdfast::cli::run_sql_client(client, std::cin, std::cout, std::cerr);
}
