#include "state/secrets.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "base/error.h"
#include "io/file.h"

namespace holdfast::state {

namespace {

constexpr std::size_t kLongestFile = 128;

Error malformed(const std::filesystem::path& file, std::string_view reason) {
  return Error(sqlstate::kConfigFileError,
               fmt::format("key file \"{}\" {}", file.string(), reason));
}

}  // namespace

std::unique_ptr<crypto::Sealer> read_key_file(const std::filesystem::path& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) == 0 && (status.st_mode & 077) != 0) {
    throw malformed(file, "may be read by others than its owner")
        .hint(fmt::format("Run chmod 600 {}", file.string()));
  }
  const auto text = io::read_whole(io::FileSystem::real(), file.string(), kLongestFile);
  if (!text) return nullptr;
  std::string_view digits = as_text(*text);
  while (digits.ends_with('\n')) digits.remove_suffix(1);
  const auto key = from_hex(digits);
  if (!key || key->size() != crypto::Sealer::kKeyBytes) {
    throw malformed(file, "does not hold 64 hexadecimal digits");
  }
  return std::make_unique<crypto::Sealer>(*key);
}

std::unique_ptr<crypto::Sealer> create_key_file(const std::filesystem::path& file) {
  const Bytes key = crypto::random_bytes(crypto::Sealer::kKeyBytes);
  io::write_file_atomically(io::FileSystem::real(), file.string(), as_bytes(to_hex(key) + "\n"),
                            0600);
  return std::make_unique<crypto::Sealer>(key);
}

}  // namespace holdfast::state
