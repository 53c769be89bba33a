#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "sql/options.h"
#include "sql/statement_runner.h"
#include "sql/statements.h"

namespace holdfast::statements {

/// Throws kFeatureNotSupported: "`what` is not supported yet", with `missing` in the detail.
[[noreturn]] void refuse_missing(std::string_view what, std::string_view missing);

/// Throws kFeatureNotSupported naming the first option given whose engine does not exist yet. An
/// option that is given but switched off (revision_history = false) asks for nothing and passes.
/// `statement` is its name for the message: "BACKUP". Those in `served` pass.
void refuse_unsupported_options(const sql::Options& options, std::string_view statement,
                                std::span<const std::string_view> served = {});

/// The one URI of a statement. Several are a locality-aware collection: kFeatureNotSupported.
std::string single_uri(const sql::Uris& uris, std::string_view statement);

/// Bytes per second from "100MB", "512 kB", "1.5GB" or "1000000"; units are powers of 1024, as in
/// PostgreSQL's settings. Throws kInvalidParameterValue.
std::uint64_t parse_rate(std::string_view text);

/// The value of WITH workers: 1 to `most`; 0 when it was not given. Throws kInvalidParameterValue.
std::uint32_t workers_option(const sql::Options& options, std::uint32_t most);

/// Whether PostgreSQL is a standby. It must be up.
bool is_standby(sql::SessionContext& session);

/// Throws kReadOnlySqlTransaction when the session's server is a standby, on which nothing can be
/// made. `statement` is its name for the message; the server must be available.
void require_primary(sql::SessionContext& session, std::string_view statement);

}  // namespace holdfast::statements
