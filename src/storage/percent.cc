#include "storage/percent.h"

namespace holdfast::storage {

namespace {

std::string encode(std::string_view text, std::string_view kept) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string encoded;
  encoded.reserve(text.size());
  for (const char c : text) {
    const bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                       kept.find(c) != kept.npos;
    if (plain) {
      encoded.push_back(c);
    } else {
      const auto byte = static_cast<unsigned char>(c);
      encoded.push_back('%');
      encoded.push_back(kDigits[byte >> 4]);
      encoded.push_back(kDigits[byte & 15]);
    }
  }
  return encoded;
}

}  // namespace

std::string percent_encode(std::string_view text) { return encode(text, "-._~"); }

std::string percent_encode_path(std::string_view path) { return encode(path, "-._~/"); }

}  // namespace holdfast::storage
