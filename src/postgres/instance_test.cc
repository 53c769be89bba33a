#include "postgres/instance.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "base/error.h"
#include "postgres/child_process.h"
#include "postgres/testing/private_instance.h"

namespace holdfast::postgres {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
constexpr std::chrono::seconds kTimeout{60};

TEST(PostmasterPid, IsReadLineByLine) {
  const auto postmaster = parse_postmaster_pid(
      "4711\n/var/lib/postgresql/15/main\n1700000000\n5433\n/var/run/postgresql\nlocalhost\n"
      "  12345678     98304\nready   \n");
  ASSERT_TRUE(postmaster);
  EXPECT_EQ(postmaster->pid, 4711);
  EXPECT_EQ(postmaster->data_directory, "/var/lib/postgresql/15/main");
  EXPECT_EQ(postmaster->port, 5433);
  EXPECT_EQ(postmaster->socket_directory, "/var/run/postgresql");
  EXPECT_EQ(postmaster->listen_address, "localhost");
  EXPECT_EQ(postmaster->status, "ready");
  EXPECT_EQ(conninfo_for(*postmaster), "host='/var/run/postgresql' port=5433 dbname=postgres");
  EXPECT_FALSE(parse_postmaster_pid(""));
  EXPECT_FALSE(parse_postmaster_pid("x\n"));
  EXPECT_EQ(parse_postmaster_pid("12\n/data\n")->port, 0);
}

class ScratchDirectory : public ::testing::Test {
 protected:
  ScratchDirectory() {
    std::string pattern = "/tmp/holdfast-test-XXXXXX";
    root_ = ::mkdtemp(pattern.data());
  }
  ~ScratchDirectory() override { std::filesystem::remove_all(root_); }
  void write(const std::filesystem::path& path, const std::string& content) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << content;
  }
  std::filesystem::path root_;
};

TEST_F(ScratchDirectory, PostmasterOptsKeepWordsWithSpaces) {
  write("postmaster.opts",
        "/usr/lib/postgresql/15/bin/postgres \"-D\" \"/data/a b\" \"-c\" \"x=say \"hi\"\"\n");
  EXPECT_THAT(read_postmaster_opts(root_), ElementsAre("/usr/lib/postgresql/15/bin/postgres", "-D",
                                                       "/data/a b", "-c", "x=say \"hi\""));
  EXPECT_TRUE(read_postmaster_opts(root_ / "nowhere").empty());
}

TEST_F(ScratchDirectory, ConfigFilesOutsideAreFoundThroughIncludes) {
  const std::string etc = root_ / "etc";
  write("data/postmaster.opts", fmt::format("/bin/postgres \"-D\" \"{}\" \"-c\" "
                                            "\"config_file={}/postgresql.conf\"\n",
                                            (root_ / "data").string(), etc));
  write("etc/postgresql.conf",
        fmt::format("# include 'no.conf'\nhba_file = '{}/pg_hba.conf' # here\n"
                    "include_dir 'conf.d'\nInclude_if_exists = 'absent.conf'\n"
                    "work_mem = '1MB'\n",
                    etc));
  write("etc/conf.d/10.conf", "include '../more.conf'\n");
  write("etc/conf.d/ignored.txt", "");
  write("etc/more.conf", "include 'conf.d/10.conf'\n");
  write("etc/no.conf", "");
  write("etc/pg_hba.conf", "local all @admins trust\nlocal all user@realm trust\n");
  write("etc/admins", "postgres\n");
  write("data/pg_ident.conf", "");
  const ConfigFiles files = find_config_files(root_ / "data");
  EXPECT_EQ(files.config_file, etc + "/postgresql.conf");
  EXPECT_EQ(files.hba_file, etc + "/pg_hba.conf");
  EXPECT_EQ(files.ident_file, root_ / "data/pg_ident.conf");
  EXPECT_THAT(files.outside,
              ElementsAre(etc + "/admins", etc + "/conf.d/10.conf", etc + "/more.conf",
                          etc + "/pg_hba.conf", etc + "/postgresql.conf"));
}

// pg_ctl refuses to run as root, so the tests put a wrapper before it that changes the user.
std::filesystem::path usable_programs(const testing::PrivateInstance& server) {
  if (::geteuid() != 0) return server.pg_bin();
  const auto directory = server.scratch() / "bin";
  std::filesystem::create_directory(directory);
  const auto wrapper = directory / "pg_ctl";
  std::ofstream(wrapper) << "#!/bin/sh\nexec runuser -u postgres -- "
                         << (server.pg_bin() / "pg_ctl").string() << " \"$@\"\n";
  std::filesystem::permissions(wrapper, std::filesystem::perms::all);
  return directory;
}

TEST(InstanceControl, StopsAndStartsWithTheSameOptions) {
  testing::PrivateInstance server;
  const auto log = server.scratch() / "log";
  std::filesystem::create_directory(log);
  server.give(log);
  InstanceControl control({.data_directory = server.data_directory(),
                           .pg_bin = usable_programs(server),
                           .major = 15,
                           .log_directory = log,
                           .conninfo = server.conninfo()});
  EXPECT_EQ(control.method(), ControlMethod::PgCtl);
  EXPECT_TRUE(control.running());
  const auto before = find_postmaster(server.data_directory());
  control.start(kTimeout, Stop::never());
  EXPECT_EQ(find_postmaster(server.data_directory())->pid, before->pid);

  control.stop(kTimeout, Stop::never());
  EXPECT_FALSE(control.running());
  control.stop(kTimeout, Stop::never());
  control.start(kTimeout, Stop::never());
  control.wait_ready(kTimeout, Stop::never());
  EXPECT_NE(find_postmaster(server.data_directory())->pid, before->pid);
  EXPECT_EQ(server.execute("SHOW unix_socket_directories").text(0, 0),
            server.socket_directory().string());
}

TEST(InstanceControl, AServerThatRefusesTheLoginIsReadyOnceItsFilesSaySo) {
  testing::PrivateInstance server;
  InstanceControl control({.data_directory = server.data_directory(),
                           .pg_bin = server.pg_bin(),
                           .major = 15,
                           .conninfo = server.conninfo() + " user=nobody_of_that_name",
                           .login_patience = std::chrono::milliseconds(1)});
  const auto refusal = control.wait_ready(kTimeout, Stop::never());
  ASSERT_TRUE(refusal);
  EXPECT_THAT(*refusal, HasSubstr("nobody_of_that_name"));

  // A server that has this file has not come to the end of its recovery.
  const auto signal = server.data_directory() / "recovery.signal";
  std::ofstream(signal).close();
  try {
    control.wait_ready(std::chrono::milliseconds(1), Stop::never());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kCannotConnectNow);
  }
  std::filesystem::remove(signal);
}

TEST(InstanceControl, SaysWhyAServerDidNotStart) {
  testing::PrivateInstance server({.start = false});
  std::ofstream(server.data_directory() / "postgresql.conf", std::ios::app)
      << "shared_buffers = nonsense\n";
  const auto log = server.scratch() / "log";
  std::filesystem::create_directory(log);
  server.give(log);
  InstanceControl control({.data_directory = server.data_directory(),
                           .pg_bin = usable_programs(server),
                           .major = 15,
                           .log_directory = log});
  try {
    control.start(kTimeout, Stop::never());
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.detail(), HasSubstr("shared_buffers"));
  }
}

// Debian's data directories have no configuration: it lies in /etc, as here in "etc".
class DebianLike : public ::testing::Test {
 protected:
  DebianLike() {
    const auto etc = server_.scratch() / "etc/15/main";
    std::filesystem::create_directories(etc);
    std::filesystem::create_directory(server_.scratch() / "log");
    for (const char* name : {"postgresql.conf", "pg_hba.conf", "pg_ident.conf"}) {
      std::filesystem::rename(server_.data_directory() / name, etc / name);
    }
    std::ofstream(etc / "postgresql.conf", std::ios::app)
        << "data_directory = '" << server_.data_directory().string() << "'\n"
        << "hba_file = '" << (etc / "pg_hba.conf").string() << "'\n"
        << "ident_file = '" << (etc / "pg_ident.conf").string() << "'\n"
        << "unix_socket_directories = '" << server_.socket_directory().string() << "'\n"
        << "listen_addresses = ''\nwork_mem = '7MB'\n";
    server_.give(server_.scratch());
    lost_ = server_.data_directory().string() + ".lost";
    std::filesystem::rename(server_.data_directory(), lost_);
  }
  ~DebianLike() override { control_->stop(kTimeout, Stop::never()); }
  InstanceOptions options() {
    return {.data_directory = server_.data_directory(),
            .pg_bin = usable_programs(server_),
            .major = 15,
            .log_directory = server_.scratch() / "log",
            .conninfo = server_.conninfo(),
            .debian_clusters = server_.scratch() / "etc"};
  }
  void expect_start() {
    std::filesystem::rename(lost_, server_.data_directory());
    control_->start(kTimeout, Stop::never());
    EXPECT_FALSE(control_->wait_ready(kTimeout, Stop::never()));
    EXPECT_EQ(server_.execute("SHOW work_mem").text(0, 0), "7MB");
  }
  testing::PrivateInstance server_{{.start = false}};
  std::filesystem::path lost_;
  std::optional<InstanceControl> control_;
};

TEST_F(DebianLike, TheConfigurationOfALostDataDirectoryIsFound) {
  control_.emplace(options());
  EXPECT_EQ(control_->findings(), "");
  expect_start();
  EXPECT_EQ(find_debian_clusters(server_.scratch() / "etc", 15, server_.data_directory()).size(),
            1U);
  EXPECT_TRUE(find_debian_clusters(server_.scratch() / "etc", 15, "/elsewhere").empty());
  EXPECT_TRUE(
      find_debian_clusters(server_.scratch() / "etc", 14, server_.data_directory()).empty());
}

TEST_F(DebianLike, WhatAnEarlierProcessFoundIsGoneOnWith) {
  auto with = options();
  with.debian_clusters = server_.scratch() / "nowhere";
  with.remembered = fmt::format("{}\n\n\n-c\nconfig_file={}/etc/15/main/postgresql.conf\n",
                                server_.data_directory().string(), server_.scratch().string());
  control_.emplace(with);
  EXPECT_EQ(control_->findings(), with.remembered);
  expect_start();
}

TEST(InstanceControl, PrefersTheUsersCommands) {
  testing::PrivateInstance server;
  const auto mark = server.scratch() / "mark";
  InstanceControl control(
      {.data_directory = server.data_directory(),
       .pg_bin = server.pg_bin(),
       .major = 15,
       .start_command = "echo no luck >&2; exit 3",
       .stop_command = fmt::format("touch {}; {} {}/pg_ctl stop -D {} -m fast", mark.string(),
                                   ::geteuid() == 0 ? "runuser -u postgres --" : "",
                                   server.pg_bin().string(), server.data_directory().string())});
  EXPECT_EQ(control.method(), ControlMethod::UserCommand);
  control.stop(kTimeout, Stop::never());
  EXPECT_TRUE(std::filesystem::exists(mark));
  EXPECT_FALSE(control.running());
  try {
    control.start(kTimeout, Stop::never());
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.message(), HasSubstr("exit code 3"));
    EXPECT_THAT(error.detail(), HasSubstr("no luck"));
  }
}

TEST(FindPgBin, TakesTheRunningServersAndChecksTheVersion) {
  const testing::PrivateInstance server;
  EXPECT_EQ(find_pg_bin(server.data_directory(), 15, {}, Stop::never()), server.pg_bin());
  EXPECT_EQ(read_pg_version(server.data_directory()), 15);
  try {
    find_pg_bin(server.data_directory(), 15, "/usr/games", Stop::never());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kUndefinedFile);
    EXPECT_THAT(error.detail(), HasSubstr("/usr/games"));
  }
}

TEST(RunChild, ReturnsCodeAndOutput) {
  const ChildResult result =
      run_child({.arguments = {"echo out; echo err >&2; exit 7"}, .shell = true}, Stop::never());
  EXPECT_EQ(result.exit_code, 7);
  EXPECT_EQ(result.output, "out\nerr\n");
  EXPECT_THROW(run_child({.arguments = {"/no/such/program"}}, Stop::never()), Error);
}

TEST(RunChild, KeepsTheEndOfMuchOutput) {
  const ChildResult result =
      run_child({.arguments = {"seq 1 200000"}, .shell = true}, Stop::never());
  EXPECT_EQ(result.output.size(), 65536U);
  EXPECT_THAT(result.output, ::testing::EndsWith("\n200000\n"));
}

TEST(RunChild, DoesNotWaitForWhatAProgramLeavesBehind) {
  const auto began = std::chrono::steady_clock::now();
  const ChildResult result =
      run_child({.arguments = {"sleep 5 & echo done"}, .shell = true}, Stop::never());
  EXPECT_EQ(result.output, "done\n");
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(3));
}

TEST(RunChild, KillsAfterTheTimeoutAndOnAStop) {
  const auto began = std::chrono::steady_clock::now();
  EXPECT_THROW(
      run_child(
          {.arguments = {"sleep 60"}, .timeout = std::chrono::milliseconds(200), .shell = true},
          Stop::never()),
      Error);
  StopSource source;
  std::jthread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    source.request(StopReason::Cancel);
  });
  EXPECT_THROW(run_child({.arguments = {"sleep", "60"}}, source.stop()), Stopped);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(4));
}

}  // namespace
}  // namespace holdfast::postgres
