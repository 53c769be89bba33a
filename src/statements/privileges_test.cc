#include "statements/privileges.h"

#include <gtest/gtest.h>

#include "statements/testing/fake_session.h"

namespace holdfast::statements {
namespace {

using testing::FakeSession;

std::string refusal(FakeSession& session, ClusterPrivilege privilege) {
  try {
    require_cluster_privilege(session, privilege);
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kInsufficientPrivilege);
    return error.message();
  }
  return "";
}

TEST(Privileges, AnAdministratorMayDoClusterWideThings) {
  FakeSession session;
  session.administrator = true;
  EXPECT_EQ(refusal(session, ClusterPrivilege::Backup), "");
  EXPECT_EQ(refusal(session, ClusterPrivilege::Restore), "");
}

TEST(Privileges, OthersAreToldWhoMay) {
  FakeSession session;
  EXPECT_EQ(refusal(session, ClusterPrivilege::Backup),
            "only superusers and members of the role holdfast_admin are allowed to perform full "
            "cluster backups: user ann is neither");
  EXPECT_EQ(refusal(session, ClusterPrivilege::Restore),
            "only superusers and members of the role holdfast_admin are allowed to perform a "
            "cluster restore: user ann is neither");
}

TEST(Privileges, WhilePostgresIsDownOnlyTheLocalAdministratorMay) {
  FakeSession session;
  session.administrator = true;
  session.available = false;
  EXPECT_NE(refusal(session, ClusterPrivilege::Restore), "");
  session.local = true;
  EXPECT_EQ(refusal(session, ClusterPrivilege::Restore), "");
}

TEST(Privileges, OwnershipGoesOnlyToRolesOfOnesOwn) {
  FakeSession session;
  const auto answer = [](std::string member) {
    sql::QueryResult result;
    result.rows = {{"10", std::move(member)}};
    return result;
  };
  session.answers = {answer("t"), answer("f"), {}};
  EXPECT_NO_THROW(require_membership(session, "team"));
  EXPECT_THROW(require_membership(session, "others"), Error);
  try {
    require_membership(session, "it's \\ not there");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kUndefinedObject);
  }
  EXPECT_NE(session.queries.back().find("E'it''s \\\\ not there'"), std::string::npos)
      << session.queries.back();
}

}  // namespace
}  // namespace holdfast::statements
