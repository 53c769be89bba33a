#include "io/memory.h"

#include <gtest/gtest.h>

namespace holdfast::io {
namespace {

TEST(Memory, IsReadFromWhatTheKernelSays) {
  EXPECT_EQ(parse_available_memory("MemTotal:  24 kB\nMemAvailable:   19 kB\nBuffers: 1 kB\n"),
            19U * 1024);
  EXPECT_EQ(parse_available_memory("MemTotal:  24 kB\nMemFree: 5 kB\n"), std::nullopt);
  EXPECT_EQ(parse_available_memory("MemAvailable:   "), std::nullopt);
  EXPECT_EQ(parse_available_memory("MemAvailable: none kB"), std::nullopt);
  EXPECT_EQ(parse_available_memory("MemAvailable: 18446744073709551615 kB"), std::nullopt);
  EXPECT_EQ(parse_available_memory(""), std::nullopt);
}

TEST(Memory, IsThere) { EXPECT_GT(available_memory().value_or(1), 0U); }

}  // namespace
}  // namespace holdfast::io
