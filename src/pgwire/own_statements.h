#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sql/row_sink.h"

namespace holdfast::pgwire {

/// A statement of ours that the client prepared. It lives here and PostgreSQL does not know it;
/// DISCARD ALL and DEALLOCATE do not reach it, a Close message does.
struct OwnStatement {
  std::string text;
  std::vector<std::uint32_t> parameter_types;  ///< as declared; 0 where the client left it open
  std::vector<sql::Column> columns;            ///< empty when it returns no rows
};

/// A statement of ours with its parameters bound.
struct OwnPortal {
  // Shared with the name table, where a Close may remove it; the last of them frees it.
  std::shared_ptr<const OwnStatement> statement;
  std::vector<sql::Value> parameters;
  std::vector<std::uint16_t> result_formats;
  std::uint64_t batch = 0;  ///< the batch it was bound in: it ends with its transaction
  bool executed = false;
  // What a limited Execute has not sent yet: encoded rows, and the tag.
  std::vector<std::string> rows;
  std::size_t next_row = 0;
  std::string tag;
};

using OwnStatements = std::map<std::string, std::shared_ptr<const OwnStatement>, std::less<>>;
using OwnPortals = std::map<std::string, OwnPortal, std::less<>>;

}  // namespace holdfast::pgwire
