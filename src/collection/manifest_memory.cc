#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>
#include <unistd.h>

#include "collection/manifest_internal.h"

namespace holdfast::collection {

namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

// What protobuf 3.21 allocates on a 64-bit machine, rounded up.
constexpr std::uint64_t kMessageBytes = 160;
constexpr std::uint64_t kTextBytes = 64;  // beside its characters
constexpr std::uint64_t kNumberBytes = 16;

/// Adds up one message. False: it is malformed, and a parser stops there too.
bool add(CodedInputStream& wire, const Descriptor& type, std::uint64_t& total) {
  while (const std::uint32_t tag = wire.ReadTag()) {
    const int number = WireFormatLite::GetTagFieldNumber(tag);
    const FieldDescriptor* field = type.FindFieldByNumber(number);
    if (WireFormatLite::GetTagWireType(tag) != WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
      total += kNumberBytes;
      if (!WireFormatLite::SkipField(&wire, tag)) return false;
      continue;
    }
    int length = 0;
    if (!wire.ReadVarintSizeAsInt(&length)) return false;
    if (field != nullptr && field->type() == FieldDescriptor::TYPE_MESSAGE) {
      total += kMessageBytes;
      const auto limit = wire.PushLimit(length);
      if (!add(wire, *field->message_type(), total)) return false;
      if (wire.BytesUntilLimit() != 0) return false;
      wire.PopLimit(limit);
    } else {
      // Packed numbers take a byte each at least, and eight unpacked.
      const bool packed = field != nullptr && field->is_packable();
      total += kTextBytes + static_cast<std::uint64_t>(length) * (packed ? 8 : 1);
      if (!wire.Skip(length)) return false;
    }
  }
  return true;
}

}  // namespace

std::uint64_t memory_of_manifest(ByteView plain) {
  CodedInputStream wire(reinterpret_cast<const std::uint8_t*>(plain.data()),
                        static_cast<int>(plain.size()));
  std::uint64_t total = kMessageBytes;
  add(wire, *proto::Manifest::descriptor(), total);
  return total;
}

std::uint64_t half_of_memory() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page = ::sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page <= 0) return kMaxManifestMemory;
  return static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page) / 2;
}

}  // namespace holdfast::collection
