#include "base/free_memory.h"

#include <malloc.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>

namespace holdfast {
namespace {

/// What is given back has to be cleared by the kernel before it is used again: not worth it for
/// what ordinary backups need.
constexpr std::uint64_t kMuch = 96ULL << 20;

std::uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t total = 0;
  std::uint64_t resident = 0;
  statm >> total >> resident;
  return statm ? resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) : 0;
}

}  // namespace

void give_back_free_memory() {
  if (resident_bytes() > kMuch) ::malloc_trim(0);
}

}  // namespace holdfast
