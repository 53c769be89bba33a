#include "cli/client_certificate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "base/error.h"

namespace holdfast::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

TEST(CertPrincipalMap, ReadsItsForm) {
  EXPECT_THAT(parse_cert_principal_map(""), IsEmpty());
  EXPECT_THAT(parse_cert_principal_map("host:root,a:b:alice"),
              ElementsAre(Pair("host", "root"), Pair("a:b", "alice")));
  for (const char* wrong : {"host", ":root", "host:", "a:b,,c:d", "../x:root", "x:/etc"}) {
    EXPECT_THROW(parse_cert_principal_map(wrong), Error) << wrong;
  }
}

TEST(ClientCertificate, IsTheUsersOwnOrOneThatTheMapHasForHim) {
  std::string name = (std::filesystem::temp_directory_path() / "holdfast-certs-XXXXXX").string();
  const std::filesystem::path directory = mkdtemp(name.data());
  for (const char* file : {"client.alice.crt", "client.host.crt", "client.backup.crt"}) {
    std::ofstream(directory / file) << "x";
  }
  const auto map = parse_cert_principal_map("host:root,backup:root,gone:root,host:alice");
  EXPECT_EQ(client_certificate(directory, "alice", map), "client.alice");
  EXPECT_EQ(client_certificate(directory, "root", map), "client.backup");
  EXPECT_EQ(client_certificate(directory, "root", {}), "");
  EXPECT_EQ(client_certificate(directory, "bob", map), "");
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace holdfast::cli
