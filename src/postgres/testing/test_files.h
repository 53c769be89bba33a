#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "base/bytes.h"

namespace holdfast::postgres::testing {

/// A file of src/postgres/testdata, made by a real server.
inline Bytes test_data(const std::string& name) {
  std::ifstream file(std::filesystem::path(HOLDFAST_POSTGRES_TESTDATA) / name, std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(file), {}};
  const ByteView bytes = as_bytes(content);
  return Bytes(bytes.begin(), bytes.end());
}

}  // namespace holdfast::postgres::testing
