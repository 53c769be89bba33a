#include <array>
#include <nlohmann/json.hpp>

#include "collection/collection.h"

namespace holdfast::collection {

namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using Json = nlohmann::ordered_json;

/// The fields of type bytes that are no text.
constexpr std::array<std::string_view, 3> kBinaryFields = {"backup_uuid", "index_hash",
                                                           "frame_hashes"};

Json print_message(const Message& message);

std::string print_bytes(const FieldDescriptor& field, const std::string& value) {
  for (const std::string_view name : kBinaryFields) {
    if (field.name() == name) return to_hex(as_bytes(value));
  }
  return value;
}

Json print_one(const Message& message, const Reflection& reflection, const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection.GetInt32(message, &field);
    case FieldDescriptor::CPPTYPE_UINT32:
      return reflection.GetUInt32(message, &field);
    case FieldDescriptor::CPPTYPE_INT64:
      return std::to_string(reflection.GetInt64(message, &field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return std::to_string(reflection.GetUInt64(message, &field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetBool(message, &field);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection.GetDouble(message, &field);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return reflection.GetFloat(message, &field);
    case FieldDescriptor::CPPTYPE_ENUM:
      return reflection.GetEnum(message, &field)->name();
    case FieldDescriptor::CPPTYPE_STRING:
      return print_bytes(field, reflection.GetString(message, &field));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return print_message(reflection.GetMessage(message, &field));
  }
  return nullptr;
}

Json print_repeated(const Message& message, const Reflection& reflection,
                    const FieldDescriptor& field, int i) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection.GetRepeatedInt32(message, &field, i);
    case FieldDescriptor::CPPTYPE_UINT32:
      return reflection.GetRepeatedUInt32(message, &field, i);
    case FieldDescriptor::CPPTYPE_INT64:
      return std::to_string(reflection.GetRepeatedInt64(message, &field, i));
    case FieldDescriptor::CPPTYPE_UINT64:
      return std::to_string(reflection.GetRepeatedUInt64(message, &field, i));
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetRepeatedBool(message, &field, i);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection.GetRepeatedDouble(message, &field, i);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return reflection.GetRepeatedFloat(message, &field, i);
    case FieldDescriptor::CPPTYPE_ENUM:
      return reflection.GetRepeatedEnum(message, &field, i)->name();
    case FieldDescriptor::CPPTYPE_STRING:
      return print_bytes(field, reflection.GetRepeatedString(message, &field, i));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return print_message(reflection.GetRepeatedMessage(message, &field, i));
  }
  return nullptr;
}

Json print_message(const Message& message) {
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  Json object = Json::object();
  for (const FieldDescriptor* field : fields) {
    Json& value = object[field->name()];
    if (!field->is_repeated()) {
      value = print_one(message, reflection, *field);
      continue;
    }
    value = Json::array();
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      value.push_back(print_repeated(message, reflection, *field, i));
    }
  }
  return object;
}

}  // namespace

std::string manifest_to_json(const proto::Manifest& manifest) {
  return print_message(manifest).dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace holdfast::collection
