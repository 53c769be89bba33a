#pragma once

#include <filesystem>
#include <memory>

#include "crypto/sealer.h"

namespace holdfast::state {

/// The key of the state file's secrets, `STORE/holdfast.key`: 64 hexadecimal digits, mode 0600.
/// Absent when there is no such file. Throws kConfigFileError when it is malformed or others than
/// its owner may read it.
std::unique_ptr<crypto::Sealer> read_key_file(const std::filesystem::path& file);

/// Makes a new key file, durably.
std::unique_ptr<crypto::Sealer> create_key_file(const std::filesystem::path& file);

}  // namespace holdfast::state
