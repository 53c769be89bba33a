#include "daemon/configuration.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <fstream>

#include "base/error.h"

namespace holdfast::daemon {
namespace {

Configuration valid() {
  Configuration configuration;
  configuration.pgdata = "/var/lib/postgresql/15/main";
  configuration.store = "/var/lib/holdfast";
  return configuration;
}

TEST(Configuration, DefaultsFollowFromTheStore) {
  Configuration configuration = valid();
  configuration.background = true;
  configuration.complete();
  EXPECT_EQ(configuration.external_io_dir, "/var/lib/holdfast/extern");
  EXPECT_EQ(configuration.socket_dir, "/var/lib/holdfast");
  EXPECT_EQ(configuration.pid_file, "/var/lib/holdfast/holdfast.pid");
}

TEST(Configuration, RefusesStateInsideTheDataDirectory) {
  Configuration configuration = valid();
  configuration.store = configuration.pgdata + "/holdfast";
  EXPECT_THROW(configuration.complete(), Error);
  configuration = valid();
  configuration.external_io_dir = configuration.pgdata + "/x/../backups";
  EXPECT_THROW(configuration.complete(), Error);
}

TEST(Configuration, RefusesHalfAPair) {
  Configuration configuration = valid();
  configuration.tls_cert = "server.crt";
  EXPECT_THROW(configuration.complete(), Error);
  configuration = valid();
  configuration.pg_stop_command = "stop";
  EXPECT_THROW(configuration.complete(), Error);
}

TEST(Configuration, RefusesMalformedValues) {
  for (const char* locality : {"us-east", "region=", "region=a,", "=a", "region=a zone=b"}) {
    Configuration configuration = valid();
    configuration.locality = locality;
    EXPECT_THROW(configuration.complete(), Error) << locality;
  }
  for (const char* node : {"", "0", "-1", "self", "12345678901"}) {
    Configuration configuration = valid();
    configuration.node_id = node;
    EXPECT_THROW(configuration.complete(), Error) << node;
  }
}

TEST(Configuration, AddressesHaveHostAndPort) {
  EXPECT_EQ(parse_address("127.0.0.1:26257", "--listen").port, 26257);
  EXPECT_EQ(parse_address("[::1]:1", "--listen").host, "::1");
  EXPECT_EQ(parse_address(":0", "--listen").host, "*");
  for (const char* text :
       {"", "127.0.0.1", "localhost:", "localhost:x", "localhost:65536", "::1:5432", "host:1x"}) {
    EXPECT_THROW(parse_address(text, "--listen"), Error) << text;
  }
}

TEST(Configuration, ReadsTheSameNamesFromAFile) {
  std::string path = testing::TempDir() + "/holdfast.conf";
  std::ofstream(path) << "pgdata=/from/file\nlisten=127.0.0.1:1\njobs-concurrency=2\n";
  Configuration configuration;
  CLI::App app;
  configuration.declare(app);
  std::vector<std::string> arguments{"--listen=127.0.0.1:2", "--config=" + path};
  app.parse(arguments);
  EXPECT_EQ(configuration.pgdata, "/from/file");
  EXPECT_EQ(configuration.listen, "127.0.0.1:2") << "the command line wins";
  EXPECT_EQ(configuration.jobs_concurrency, 2U);
}

TEST(Configuration, RefusesAnUnknownNameInAFile) {
  std::string path = testing::TempDir() + "/holdfast-unknown.conf";
  std::ofstream(path) << "pgdata=/from/file\npg-data=/typo\n";
  Configuration configuration;
  CLI::App app;
  configuration.declare(app);
  std::vector<std::string> arguments{"--config=" + path};
  EXPECT_THROW(app.parse(arguments), CLI::ParseError);
}

}  // namespace
}  // namespace holdfast::daemon
