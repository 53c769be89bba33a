#include "sql/printer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sql/parser.h"

namespace holdfast::sql {
namespace {

using testing::HasSubstr;

TEST(RedactUri, HidesTheValuesOfSecretParameters) {
  struct Case {
    std::string_view uri;
    std::string_view shown;
  };
  for (const Case& c : {
           Case{"s3://b/p?AWS_ACCESS_KEY_ID=id&AWS_SECRET_ACCESS_KEY=key&AWS_REGION=x",
                "s3://b/p?AWS_ACCESS_KEY_ID=id&AWS_SECRET_ACCESS_KEY=redacted&AWS_REGION=x"},
           Case{"s3://b?AWS_SESSION_TOKEN=t", "s3://b?AWS_SESSION_TOKEN=redacted"},
           Case{
               "azure-blob://c?AZURE_ACCOUNT_NAME=n&AZURE_ACCOUNT_KEY=k&AZURE_CLIENT_SECRET=s",
               "azure-blob://c?AZURE_ACCOUNT_NAME=n&AZURE_ACCOUNT_KEY=redacted&AZURE_CLIENT_SECRET="
               "redacted"},
           Case{"gs://b/p?AUTH=specified&CREDENTIALS=abc==",
                "gs://b/p?AUTH=specified&CREDENTIALS="
                "redacted"},
           Case{"gs://b?BEARER_TOKEN=t", "gs://b?BEARER_TOKEN=redacted"},
           Case{"https://h/p?sv=1&sig=abc%3D", "https://h/p?sv=redacted&sig=redacted"},
           Case{"s3://b?aws%5Fsecret_access_key=k", "s3://b?aws%5Fsecret_access_key=redacted"},
           Case{"https://host/a?apikey=hunter2", "https://host/a?apikey=redacted"},
           Case{"s3://b?AWS_SECRET_ACCESS_KEY=abc;def&AUTH=specified",
                "s3://b?AWS_SECRET_ACCESS_KEY=redacted&AUTH=specified"},
           Case{"https://user:p@ss:w@host/p", "https://user:redacted@host/p"},
           Case{"postgresql://u:p@[::1]:5432/db?password=x",
                "postgresql://u:redacted@[::1]:5432/db?password=redacted"},
           Case{"https://hush@host/p", "https://redacted@host/p"},
           Case{"https://user:hu/sh?x@host/p?y", "https://user:redacted@host/p?redacted"},
           Case{"azure://c?AZURE_ENDPOINT=https://user:hush@h",
                "azure://c?AZURE_ENDPOINT=redacted"},
           Case{"azure://c?AZURE_ENDPOINT=https://h", "azure://c?AZURE_ENDPOINT=https://h"},
           Case{"aws:///key-id?AUTH=implicit", "aws:///redacted?AUTH=implicit"},
           Case{"aws-kms:///arn:aws:kms:k?AWS_SECRET_ACCESS_KEY=s",
                "aws-kms:///redacted?AWS_SECRET_ACCESS_KEY=redacted"},
           Case{"gs:///projects/P/keyRings/R?AUTH=implicit", "gs:///redacted?AUTH=implicit"},
           Case{"azure-kms:///key/version", "azure-kms:///redacted"},
           Case{"nodelocal://1/path", "nodelocal://1/path"},
           Case{"external://c/d", "external://c/d"},
           Case{"2025/01/31-130501.25", "2025/01/31-130501.25"},
           Case{"b/p?AWS_SECRET_ACCESS_KEY=k", "b/p?AWS_SECRET_ACCESS_KEY=redacted"},
           Case{"", ""},
       }) {
    EXPECT_EQ(redact_uri(c.uri), c.shown);
  }
}

TEST(RedactUri, HidesTheMasterKeyOfAnyScheme) {
  EXPECT_EQ(redact_kms_uri("vault://host/key?x=y"), "vault://host/redacted?x=redacted");
  EXPECT_EQ(redact_kms_uri("key-id"), "redacted");
  EXPECT_EQ(redact_kms_uri("external://c"), "external://c");
}

TEST(Printer, HidesSecretsWhereverTheyStandInAStatement) {
  struct Case {
    std::string_view text;
    std::string_view shown;
  };
  for (
      const Case& c : {
          Case{"BACKUP INTO 's3://b?AWS_SECRET_ACCESS_KEY=k' WITH encryption_passphrase = 'p'",
               "BACKUP INTO 's3://b?AWS_SECRET_ACCESS_KEY=redacted' WITH OPTIONS "
               "(encryption_passphrase = '*****')"},
          Case{
              "RESTORE FROM LATEST IN ('s3://b?AWS_SESSION_TOKEN=k', 'y') WITH kms = "
              "('aws:///k1', 'gs:///k2')",
              "RESTORE FROM LATEST IN ('s3://b?AWS_SESSION_TOKEN=redacted', 'y') WITH OPTIONS (kms "
              "= ('aws:///redacted', 'gs:///redacted'))"},
          Case{"ALTER BACKUP LATEST IN 's3://b?AWS_SECRET_ACCESS_KEY=k' ADD NEW_KMS = 'aws:///a' "
               "WITH OLD_KMS = 'aws:///b'",
               "ALTER BACKUP LATEST IN 's3://b?AWS_SECRET_ACCESS_KEY=redacted' ADD NEW_KMS = "
               "'aws:///redacted' WITH OLD_KMS = 'aws:///redacted'"},
          Case{"ALTER BACKUP LATEST IN 'c' ADD NEW_PASSPHRASE = 'p' WITH OLD_PASSPHRASE = 'q'",
               "ALTER BACKUP LATEST IN 'c' ADD NEW_PASSPHRASE = '*****' WITH OLD_PASSPHRASE = "
               "'*****'"},
          Case{"CREATE EXTERNAL CONNECTION c AS 'azure://c?AZURE_ACCOUNT_KEY=k'",
               "CREATE EXTERNAL CONNECTION c AS 'azure://c?AZURE_ACCOUNT_KEY=redacted'"},
          Case{"ALTER BACKUP SCHEDULE 1 SET WITH encryption_passphrase = 'p'",
               "ALTER BACKUP SCHEDULE 1 SET WITH encryption_passphrase = '*****'"},
          Case{"BACKUP DATABASE d TO S3 'b/p' CONFIG '{\"x-customer-key\": \"k\"}' CREDENTIALS "
               "'{\"aws_secret_access_key\": \"k\"}' TAGS ('shown')",
               "BACKUP DATABASE d TO S3 'b/p' CONFIG '*****' CREDENTIALS '*****' TAGS ('shown')"},
          Case{"RESTORE d FROM 's3://b?AWS_SECRET_ACCESS_KEY=k' CREDENTIALS 'k'",
               "RESTORE DATABASE d FROM 's3://b?AWS_SECRET_ACCESS_KEY=redacted' CREDENTIALS "
               "'*****'"},
          Case{"BACKUP INTO 's3://b?AWS_SECRET_ACCESS_KEY=k' IN 'x'",
               "BACKUP INTO 's3://b?AWS_SECRET_ACCESS_KEY=redacted' IN 'x'"},
          Case{
              "PAUSE JOBS (SELECT 1 FROM [SHOW BACKUP FROM LATEST IN "
              "'s3://b?AWS_SECRET_ACCESS_KEY=k' WITH encryption_passphrase = 'p', kms = "
              "'aws:///k'] "
              "WHERE a = 'shown')",
              "PAUSE JOBS (SELECT 1 FROM [SHOW BACKUP FROM LATEST IN "
              "'s3://b?AWS_SECRET_ACCESS_KEY=redacted' WITH encryption_passphrase = '*****', kms = "
              "'aws:///redacted'] WHERE a = 'shown')"},
      }) {
    EXPECT_EQ(print(parse(c.text), Redact::Secrets), c.shown);
    EXPECT_EQ(redact_text(c.text), c.shown);
  }
}

TEST(RedactText, HidesEveryStringOfTextThatDoesNotParse) {
  struct Case {
    std::string_view text;
    std::string_view shown;
  };
  for (const Case& c : {
           Case{"BACKUP INTO 'x' WITH encryption_passphrse = 'hunter2'",
                "BACKUP INTO '*****' WITH encryption_passphrse = '*****'"},
           Case{"BACKUP INTO 's3://b?AWS_SECRET_ACCESS_KEY=hunter2' WITH nonsense",
                "BACKUP INTO 's3://b?AWS_SECRET_ACCESS_KEY=redacted' WITH nonsense"},
           Case{"BACKUP INTO 'a://b' WITH encryption_passphrase = hunter2, detached x",
                "BACKUP INTO 'a://b' WITH encryption_passphrase = '*****', detached x"},
           Case{"BACKUP INTO 'a://b' WITH encryption_passphrase \"hunter2\"",
                "BACKUP INTO 'a://b' WITH encryption_passphrase '*****'"},
           Case{"BACKUP INTO 'a://b' WITH encryption_passphrase = 'hunter2",
                "BACKUP INTO 'a://b' WITH encryption_passphrase = '*****'"},
           Case{"BACKUP INTO 'a://b' WITH encryption_passphrase = $$hunter2$$ x",
                "BACKUP INTO 'a://b' WITH encryption_passphrase = '*****' '*****'"},
           Case{"BACKUP DATABASE d TO S3 'b/p' CREDENTIALS '{\"k\": \"hunter2\"}' nonsense",
                "BACKUP DATABASE d TO S3 '*****' CREDENTIALS '*****' nonsense"},
           Case{"BACKUP DATABASE d TO S3 'b/p' CREDENTIALS \"hunter2\"",
                "BACKUP DATABASE d TO S3 '*****' CREDENTIALS '*****'"},
           Case{"BACKUP x y /* hunter2 */ z -- hunter2", "BACKUP x y z"},
           Case{"BACKUP x y /* hunter2", "BACKUP x y '*****'"},
           Case{"BACKUP INTO E'hunter2\\uZ' U&'hunter2\\Z' B'hunter2'",
                "BACKUP INTO '*****' '*****' '*****'"},
       }) {
    EXPECT_EQ(redact_text(c.text), c.shown);
    EXPECT_THAT(redact_text(c.text), Not(HasSubstr("hunter2")));
  }
}

TEST(Printer, PrintsOptionsAlone) {
  auto backup =
      std::get<Backup>(parse("BACKUP INTO 'x' WITH detached, encryption_passphrase = 'p'"));
  EXPECT_EQ(print(backup.options, Redact::Secrets), "detached, encryption_passphrase = '*****'");
}

}  // namespace
}  // namespace holdfast::sql
