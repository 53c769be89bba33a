#include "daemon/userfile_store.h"

#include <algorithm>

#include "base/error.h"
#include "postgres/testing/private_instance.h"
#include "storage/testing/object_store_contract.h"

namespace holdfast::daemon {
namespace {

using postgres::testing::PrivateInstance;

PrivateInstance& server() {
  static PrivateInstance instance;
  return instance;
}

std::unique_ptr<storage::ObjectStore> open(const std::string& uri, const std::string& user = "") {
  return open_userfile_store(storage::parse_userfile_uri(uri, "postgres"), {.connect = [user] {
                               std::string conninfo = server().conninfo();
                               if (!user.empty()) conninfo += " user=" + user;
                               return postgres::ConnectOptions{.conninfo = conninfo};
                             }});
}

struct MakeUserfile {
  std::unique_ptr<storage::ObjectStore> operator()() {
    static int number = 0;
    return open("userfile:///contract%20'ä/" + std::to_string(++number));
  }
};

class UserfileStoreTest : public ::testing::Test {
 protected:
  SqlState refusal(storage::ObjectStore& store) {
    try {
      store.put("k", as_bytes("x"), storage::PutMode::OnlyIfAbsent, stop_);
    } catch (const Error& error) {
      return error.state();
    }
    return sqlstate::kSuccess;
  }
  Stop stop_ = Stop::never();
};

TEST_F(UserfileStoreTest, ReadsPartsAcrossRows) {
  const auto store = open("userfile://postgres.public.parts/");
  Bytes bytes((9U << 20) + 5);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 31 >> 4);
  store->put("k", bytes, storage::PutMode::OnlyIfAbsent, stop_);
  EXPECT_EQ(server().execute("SELECT count(*) FROM parts_upload_payload").integer(0, 0), 3);
  for (const auto& [offset, length] : {std::pair<std::size_t, std::size_t>{0, 1},
                                       {(4U << 20) - 1, 2},
                                       {(4U << 20) - 3, (4U << 20) + 6},
                                       {bytes.size() - 7, 7}}) {
    Bytes part(length);
    ASSERT_TRUE(store->get_into("k", offset, part, stop_));
    EXPECT_TRUE(std::equal(part.begin(), part.end(), bytes.begin() + std::ptrdiff_t(offset)));
  }
  server().execute("DELETE FROM parts_upload_payload WHERE byte_offset = 4194304");
  Bytes part(8U << 20);
  try {
    store->get_into("k", 0, part, stop_);
    ADD_FAILURE() << "missing rows were not noticed";
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kDataCorrupted);
  }
}

TEST_F(UserfileStoreTest, NobodyElseMayLookIntoWhatItMakes) {
  server().execute("CREATE ROLE curious LOGIN");
  const auto store = open("userfile:///");
  store->put("secret", as_bytes("x"), storage::PutMode::OnlyIfAbsent, stop_);
  const auto theirs = open("userfile:///", "curious");
  EXPECT_EQ(refusal(*theirs), sqlstate::kInsufficientPrivilege);
  EXPECT_THROW(theirs->stat("secret", stop_), Error);
}

TEST_F(UserfileStoreTest, TablesThatCouldRunOthersCodeAreNotUsed) {
  server().execute(
      "CREATE ROLE mallory; CREATE SCHEMA traps AUTHORIZATION mallory; "
      "SET ROLE mallory; "
      "CREATE TABLE traps.t_upload_files (filename text PRIMARY KEY, file_id uuid DEFAULT "
      "gen_random_uuid(), file_size int8, username text, upload_time timestamp); "
      "CREATE TABLE traps.t_upload_payload (file_id uuid, byte_offset int8, payload bytea); "
      "CREATE VIEW traps.v_upload_files AS TABLE traps.t_upload_files; "
      "CREATE VIEW traps.v_upload_payload AS TABLE traps.t_upload_payload; RESET ROLE");
  for (const char* uri : {"userfile://postgres.traps.t/", "userfile://postgres.traps.v/"}) {
    const auto store = open(uri);
    EXPECT_EQ(refusal(*store), sqlstate::kInsufficientPrivilege) << uri;
    EXPECT_THROW(store->stat("k", stop_), Error);
    EXPECT_THROW(store->remove("k", stop_), Error);
  }
}

TEST_F(UserfileStoreTest, CommitsAreDurableWhateverTheServerDoesForOthers) {
  // Settings of a database stand above those of the whole server.
  server().execute("ALTER DATABASE postgres SET synchronous_commit = off");
  const auto store = open("userfile://postgres.public.durable/");
  store->put("first", as_bytes("x"), storage::PutMode::OnlyIfAbsent, stop_);
  server().execute(
      "CREATE TABLE commits (synchronous text DEFAULT current_setting('synchronous_commit')); "
      "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
      "'BEGIN INSERT INTO public.commits DEFAULT VALUES; RETURN NULL; END'; "
      "CREATE TRIGGER note AFTER INSERT OR DELETE ON durable_upload_files "
      "FOR EACH ROW EXECUTE FUNCTION note()");
  store->put("second", as_bytes("x"), storage::PutMode::OnlyIfAbsent, stop_);
  store->remove("first", stop_);
  const auto seen = server().execute("SELECT string_agg(synchronous, ' ') FROM commits");
  EXPECT_EQ(seen.text(0, 0), "local local");
  server().execute("ALTER DATABASE postgres RESET synchronous_commit");
}

TEST_F(UserfileStoreTest, WhatIsNotThereIsEmpty) {
  const auto store = open("userfile://postgres.no_such_schema.files/");
  EXPECT_FALSE(store->stat("k", stop_));
  EXPECT_THAT(store->list_directories("", stop_), testing::IsEmpty());
  store->remove("k", stop_);
}

}  // namespace
}  // namespace holdfast::daemon

namespace holdfast::storage {
INSTANTIATE_TYPED_TEST_SUITE_P(Userfile, ObjectStoreContract, daemon::MakeUserfile);
}  // namespace holdfast::storage
