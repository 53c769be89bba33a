#include "restore/definitions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace holdfast::restore {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::string_view kList =
    ";\n; Archive created at 2026-11-27\n;     dbname: bank\n;\n"
    "3400; 1262 16384 DATABASE - bank alice\n"
    "215; 1259 16390 TABLE public my table alice\n"
    "216; 1255 16391 FUNCTION public f() alice\n"
    "3250; 2606 16400 CONSTRAINT public my table my table_pkey alice\n"
    "not an entry\n";

constexpr std::string_view kScript =
    "--\n-- PostgreSQL database dump\n--\n\n\\restrict x\n\nSET statement_timeout = 0;\n\n"
    "--\n-- Name: bank; Type: DATABASE; Schema: -; Owner: -\n--\n\n"
    "CREATE DATABASE bank;\n\n\n\\unrestrict x\n\\connect bank\n\\restrict x\n\n"
    "SET statement_timeout = 0;\nSELECT pg_catalog.set_config('search_path', '', false);\n"
    "SET default_tablespace = '';\n\nSET default_table_access_method = heap;\n\n"
    "--\n-- Name: my table; Type: TABLE; Schema: public; Owner: -\n--\n\n"
    "CREATE TABLE public.\"my table\" (\n    id integer\n);\n\n\n"
    "--\n-- Name: f(); Type: FUNCTION; Schema: public; Owner: -\n--\n\n"
    "CREATE FUNCTION public.f() RETURNS void AS $$\n"
    "--\n-- Name: other; Type: TABLE; Schema: public; Owner: -\n--\n$$;\n\n\n"
    "--\n-- Name: my table my table_pkey; Type: CONSTRAINT; Schema: public; Owner: -\n--\n\n"
    "ALTER TABLE ONLY public.\"my table\"\n    ADD CONSTRAINT x PRIMARY KEY (id);\n\n\n"
    "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict x\n\n";

TEST(Definitions, ReadsTheListOfADump) {
  const auto entries = parse_list(kList);
  ASSERT_EQ(entries.size(), 4U);
  EXPECT_EQ(entries[1].row, (CatalogRow{1259, 16390}));
  EXPECT_EQ(entries[1].rest, "TABLE public my table alice");
  EXPECT_THAT(parse_list(""), IsEmpty());
}

TEST(Definitions, GivesEachEntryItsStatements) {
  EXPECT_THAT(
      split_script(kScript, parse_list(kList)),
      ElementsAre("CREATE DATABASE bank;", "CREATE TABLE public.\"my table\" (\n    id integer\n);",
                  "CREATE FUNCTION public.f() RETURNS void AS $$\n--\n-- Name: other; "
                  "Type: TABLE; Schema: public; Owner: -\n--\n$$;",
                  "ALTER TABLE ONLY public.\"my table\"\n    ADD CONSTRAINT x PRIMARY KEY "
                  "(id);"));
}

TEST(Definitions, AnEntryThatTheScriptLacksIsEmpty) {
  const std::string list = std::string(kList) + "9; 1259 1 TABLE public late alice\n";
  EXPECT_EQ(split_script(kScript, parse_list(list)).back(), "");
  EXPECT_THAT(split_script("", parse_list(kList)), ElementsAre("", "", "", ""));
}

}  // namespace
}  // namespace holdfast::restore
