#pragma once

#include <string>
#include <string_view>

#include "sql/statements.h"

namespace holdfast::sql {

enum class Redact {
  Nothing,  ///< parse(print(s)) gives s again
  Secrets,  ///< passphrases as '*****', secret parts of URIs as "redacted": for people and logs
};

/// The statement in its canonical spelling, on one line, without `;`.
std::string print(const Statement& statement, Redact redact);

/// Options in their canonical spelling without WITH: "revision_history, kms = '…'".
std::string print(const Options& options, Redact redact);

/// The URI with what redact_query() hides of its parameters, the password of its user part and, for
/// the schemes of key services, the key's path replaced by "redacted". Text that is no URI comes
/// back unchanged, but for what may be parameters.
std::string redact_uri(std::string_view uri);

/// As redact_uri, for a URI known to name a master key: its path goes too, whatever the scheme.
std::string redact_kms_uri(std::string_view uri);

/// Any statement text without its secrets: ours as print(…, Redact::Secrets), text that does not
/// parse with every quoted string that is not a plain URI shown as '*****'. Never throws.
std::string redact_text(std::string_view statement);

/// "a.public.*", names as they are: for messages.
std::string shown(const TablePattern& pattern);

}  // namespace holdfast::sql
