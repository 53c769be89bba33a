#pragma once

#include <cstddef>
#include <cstdint>

/// The bytes of WAL that are the same in PostgreSQL 13 to 18; versions.h has what differs.
namespace holdfast::postgres {

// Source: PostgreSQL src/include/access/xlog_internal.h (XLogPageHeaderData,
// XLogLongPageHeaderData).
inline constexpr std::size_t kShortHeaderBytes = 24;
inline constexpr std::size_t kLongHeaderBytes = 40;
inline constexpr std::size_t kSystemIdentifierOffset = 24;  // in a long header
inline constexpr std::uint16_t kFirstIsContinuation = 0x0001;
inline constexpr std::uint16_t kLongHeader = 0x0002;
inline constexpr std::uint16_t kFirstIsOverwrite = 0x0008;
inline constexpr std::uint16_t kAllPageFlags = 0x000F;

// Source: PostgreSQL src/include/access/xlogrecord.h (XLogRecord and what follows it).
inline constexpr std::size_t kRecordHeaderBytes = 24;
inline constexpr std::size_t kRecordXidOffset = 4;
inline constexpr std::size_t kRecordLinkOffset = 8;
inline constexpr std::size_t kRecordInfoOffset = 16;
inline constexpr std::size_t kRecordRmgrOffset = 17;
inline constexpr std::size_t kRecordCrcOffset = 20;
inline constexpr std::uint32_t kMaxRecordBytes =
    0x3FFFFFFF;  // MaxAllocSize; 16 and later keep to 1020 MiB
inline constexpr std::uint8_t kMaxBlockId = 32;
inline constexpr std::uint8_t kIdToplevelXid = 252;
inline constexpr std::uint8_t kIdOrigin = 253;
inline constexpr std::uint8_t kIdDataLong = 254;
inline constexpr std::uint8_t kIdDataShort = 255;
inline constexpr std::uint8_t kForkMask = 0x0F;
inline constexpr std::uint8_t kHasImage = 0x10;
inline constexpr std::uint8_t kHasData = 0x20;
inline constexpr std::uint8_t kWillInit = 0x40;
inline constexpr std::uint8_t kSameRelation = 0x80;
inline constexpr std::uint8_t kImageHasHole = 0x01;

// Source: PostgreSQL src/include/catalog/pg_control.h (XLOG_SWITCH, XLOG_NOOP,
// XLOG_OVERWRITE_CONTRECORD).
inline constexpr std::uint8_t kXlogResourceManager = 0;
inline constexpr std::uint8_t kXlogNoop = 0x20;
inline constexpr std::uint8_t kXlogSwitch = 0x40;
inline constexpr std::uint8_t kXlogOverwriteContrecord = 0xD0;
inline constexpr std::uint8_t kInfoOwnBits = 0xF0;

constexpr std::uint64_t align8(std::uint64_t value) { return (value + 7) & ~std::uint64_t{7}; }

// Of a transaction's record: what it is, and preparing. Source: PostgreSQL
// src/include/access/xact.h.
inline constexpr std::uint8_t kXactOperation = 0x70;
inline constexpr std::uint8_t kXactPrepare = 0x10;

}  // namespace holdfast::postgres
