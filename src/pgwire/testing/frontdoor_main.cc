// A front door with canned statements, so that tests/frontdoor/ can try the protocol against a real
// PostgreSQL without the rest of holdfast. Prints "ready <port>" and runs until SIGTERM.

#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>

#include "base/error.h"
#include "base/log.h"
#include "pgwire/server.h"
#include "pgwire/testing/canned_runner.h"

namespace {

using holdfast::pgwire::SslMode;

class FixedUpstream : public holdfast::pgwire::Upstream {
 public:
  holdfast::pgwire::UpstreamTarget where;

  std::optional<holdfast::pgwire::UpstreamTarget> target() override { return where; }
  std::string last_server_version() override { return "15.0"; }
  std::string down_reason() override { return "The test stopped it."; }
};

}  // namespace

int main(int argc, char** argv) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  // As the daemon: a client that went away is an error of its own connection.
  ::signal(SIGPIPE, SIG_IGN);

  holdfast::pgwire::ServerConfig config;
  FixedUpstream upstream;
  int authentication_timeout = 60;
  std::string log_level = "info";
  const std::map<std::string, SslMode> modes{{"disable", SslMode::Disable},
                                             {"prefer", SslMode::Prefer},
                                             {"require", SslMode::Require},
                                             {"verify-ca", SslMode::VerifyCa},
                                             {"verify-full", SslMode::VerifyFull}};
  CLI::App app("holdfast's front door with canned statements");
  app.add_option("--host", config.listen_host);
  app.add_option("--port", config.port);
  app.add_option("--socket-dir", config.socket_directory);
  app.add_option("--tls-cert", config.tls_certificate_file);
  app.add_option("--tls-key", config.tls_key_file);
  app.add_option("--max-sessions", config.max_sessions);
  app.add_option("--authentication-timeout", authentication_timeout);
  app.add_flag("--remote-trust", config.remote_trust_allowed);
  app.add_option("--pg-socket-dir", upstream.where.socket_directory);
  app.add_option("--pg-host", upstream.where.host);
  app.add_option("--pg-port", upstream.where.port);
  app.add_option("--sslmode", upstream.where.ssl_mode)->transform(CLI::CheckedTransformer(modes));
  app.add_option("--sslrootcert", upstream.where.ssl_root_certificate);
  app.add_flag("--no-peer-rule", upstream.where.socket_has_no_peer_rule);
  app.add_option("--log-level", log_level);
  CLI11_PARSE(app, argc, argv);
  config.authentication_timeout = std::chrono::seconds(authentication_timeout);
  holdfast::log::set_level(log_level);

  try {
    holdfast::pgwire::CannedRunner runner;
    holdfast::pgwire::Server server(config, upstream, runner);
    server.start();
    std::printf("ready %d\n", server.port());
    std::fflush(stdout);
    int signal = 0;
    sigwait(&signals, &signal);
    server.stop();
  } catch (const holdfast::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
