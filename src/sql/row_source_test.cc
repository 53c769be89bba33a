#include "sql/row_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pg_query.h>

namespace holdfast::sql {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

QueryResult jobs(std::vector<Row> rows) {
  return {.columns = {{"job_id", ColumnType::Int8}, {"status", ColumnType::Text}},
          .rows = std::move(rows)};
}

std::string replaced(std::string_view query, const QueryResult& result) {
  std::vector<RowSource> sources = find_row_sources(query);
  return replace_row_sources(query, sources, std::vector<QueryResult>(sources.size(), result));
}

bool postgres_parses(const std::string& text) {
  PgQueryProtobufParseResult result = pg_query_parse_protobuf(text.c_str());
  bool good = result.error == nullptr;
  if (!good) ADD_FAILURE() << text << "\n" << result.error->message;
  pg_query_free_protobuf_parse_result(result);
  return good;
}

std::vector<std::string_view> statements(std::string_view query) {
  std::vector<std::string_view> result;
  for (const RowSource& source : find_row_sources(query)) {
    result.push_back(source.statement.of(query));
  }
  return result;
}

TEST(RowSource, FindsEachOutermostShow) {
  EXPECT_THAT(statements("SELECT * FROM [SHOW JOBS] a, [ SHOW SCHEDULES ] b"),
              ElementsAre("SHOW JOBS", " SHOW SCHEDULES "));
  EXPECT_THAT(statements("SELECT * FROM [SHOW JOBS SELECT x[1] FROM [SHOW JOBS] WHERE a = ']']"),
              ElementsAre("SHOW JOBS SELECT x[1] FROM [SHOW JOBS] WHERE a = ']'"));
  EXPECT_THAT(statements("WITH a AS (SHOW JOBS), b AS MATERIALIZED (SHOW JOB (SELECT 1)) SELECT 1"),
              ElementsAre("SHOW JOBS", "SHOW JOB (SELECT 1)"));
  EXPECT_THAT(statements("SELECT a[1], '[SHOW JOBS]', b[show] FROM t"), ElementsAre());
}

TEST(RowSource, FindsOurTablesOfTheInformationSchema) {
  EXPECT_THAT(statements("SELECT h.status FROM information_schema.mv_backup_history h, "
                         "INFORMATION_SCHEMA . MV_BACKUP_STATUS JOIN [SHOW JOBS] j ON true"),
              ElementsAre("information_schema.mv_backup_history",
                          "INFORMATION_SCHEMA . MV_BACKUP_STATUS", "SHOW JOBS"));
  EXPECT_THAT(statements("SELECT information_schema.mv_backup_history.status FROM t"),
              ElementsAre());
  EXPECT_THAT(statements("SELECT 'information_schema.mv_backup_history' FROM "
                         "information_schema.tables, mv_backup_history"),
              ElementsAre());
}

TEST(RowSource, CallsATableOfOursByItsName) {
  for (std::string_view query :
       {"SELECT mv_backup_history.status FROM information_schema.mv_backup_history WHERE true",
        "SELECT h.status FROM information_schema.mv_backup_history AS h",
        "TABLE information_schema.mv_backup_history",
        "SELECT 1 FROM (information_schema.mv_backup_history JOIN t USING (job_id))"}) {
    const std::string text = replaced(query, jobs({{"1", "running"}}));
    EXPECT_TRUE(postgres_parses(text));
    EXPECT_EQ(text.find("information_schema"), std::string::npos) << text;
  }
  EXPECT_THAT(replaced("SELECT 1 FROM information_schema.mv_backup_history", jobs({})),
              HasSubstr(" AS mv_backup_history"));
}

TEST(RowSource, BecomesAValuesList) {
  EXPECT_EQ(replaced("SELECT job_id FROM [SHOW JOBS] WHERE true",
                     jobs({{"1", "running"}, {"2", std::nullopt}})),
            "SELECT job_id FROM  (SELECT * FROM (VALUES ('1'::pg_catalog.int8, "
            "'running'::pg_catalog.text), ('2', NULL)) AS holdfast_values (job_id, status)) AS "
            "holdfast_rows_1  WHERE true");
}

TEST(RowSource, KeepsItsColumnsWhenThereAreNoRows) {
  EXPECT_EQ(
      replaced("TABLE [SHOW JOBS]", jobs({})),
      "SELECT * FROM (SELECT NULL::pg_catalog.int8 AS job_id, NULL::pg_catalog.text AS status "
      "WHERE false) AS holdfast_rows_1 ");
}

TEST(RowSource, QuotesForEitherSettingOfStandardConformingStrings) {
  std::string text = replaced("TABLE [SHOW JOBS]", jobs({{"1", "it's\\'); DROP TABLE t; --"}}));
  EXPECT_THAT(text, HasSubstr("E'it''s\\\\''); DROP TABLE t; --'"));
  EXPECT_TRUE(postgres_parses(text));
}

TEST(RowSource, AddsAnAliasOnlyWhereNoneFollows) {
  for (std::string_view query :
       {"SELECT x.job_id FROM [SHOW JOBS] AS x", "SELECT x.job_id FROM [SHOW JOBS]x",
        "SELECT * FROM [SHOW JOBS] \"X\" JOIN t USING (job_id)",
        "SELECT * FROM [SHOW JOBS] AS \"where\"",
        "SELECT * FROM [SHOW JOBS] /* c */ name (a, b)"}) {
    std::string text = replaced(query, jobs({{"1", "a"}}));
    EXPECT_THAT(text, Not(HasSubstr("holdfast_rows"))) << query;
    EXPECT_TRUE(postgres_parses(text));
  }
  for (std::string_view query :
       {"SELECT * FROM [SHOW JOBS]", "SELECT * FROM [SHOW JOBS]WHERE true",
        "SELECT * FROM[SHOW JOBS]ORDER BY 1", "SELECT * FROM [SHOW JOBS] JOIN t ON true",
        "SELECT * FROM [SHOW JOBS] LEFT JOIN [SHOW JOBS] b USING (job_id)",
        "SELECT * FROM [SHOW JOBS], t", "SELECT (SELECT count(*) FROM [SHOW JOBS])",
        "SELECT * FROM [SHOW JOBS] UNION TABLE [SHOW JOBS]", "SELECT * FROM [SHOW JOBS] LIMIT 1",
        "INSERT INTO t SELECT * FROM [SHOW JOBS] ON CONFLICT DO NOTHING",
        "INSERT INTO t SELECT * FROM [SHOW JOBS] RETURNING a"}) {
    std::string text = replaced(query, jobs({{"1", "a"}}));
    EXPECT_THAT(text, HasSubstr("holdfast_rows_1")) << query;
    EXPECT_TRUE(postgres_parses(text));
  }
}

TEST(RowSource, ServesAsTheBodyOfAWithItem) {
  std::string text = replaced("WITH x AS (SHOW JOBS), y (a) AS MATERIALIZED(SHOW JOBS) TABLE x",
                              jobs({{"1", "a"}}));
  EXPECT_THAT(text, Not(HasSubstr("holdfast_rows")));
  EXPECT_TRUE(postgres_parses(text));
}

}  // namespace
}  // namespace holdfast::sql
