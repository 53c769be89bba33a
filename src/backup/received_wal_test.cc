#include "backup/received_wal.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"

namespace holdfast::backup {
namespace {

constexpr std::size_t kFrame = collection::kFrameBytes;
constexpr std::size_t kReceivedSegment = 4 * kFrame;

Bytes bytes_like_wal(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 8191);
  return bytes;
}

ReceivedWal received(ByteView wal, std::size_t at_once) {
  ReceivedWal result(kReceivedSegment);
  for (std::size_t at = 0; at < wal.size(); at += at_once) {
    result.add(wal.subspan(at, std::min(at_once, wal.size() - at)));
  }
  result.end();
  return result;
}

void check_all(const ReceivedWal& received, ByteView segment) {
  for (std::size_t offset = 0; offset < segment.size(); offset += kFrame) {
    received.check(offset, segment.subspan(offset, kFrame), "wal");
  }
}

TEST(ReceivedWalTest, IsTheSameInPiecesOfAnySize) {
  const Bytes segment = bytes_like_wal(kReceivedSegment);
  for (const std::size_t at_once : {std::size_t{8191}, kFrame, segment.size()}) {
    check_all(received(segment, at_once), segment);
  }
}

TEST(ReceivedWalTest, EndsInZerosWhereTheStreamEnds) {
  for (const std::size_t size : {std::size_t{0}, std::size_t{100}, kFrame, kFrame + 1}) {
    Bytes segment = bytes_like_wal(size);
    const ReceivedWal wal = received(segment, 1000);
    segment.resize(kReceivedSegment);
    check_all(wal, segment);
    segment[kReceivedSegment - 1] = std::byte{1};
    EXPECT_THROW(check_all(wal, segment), Error);
  }
}

TEST(ReceivedWalTest, SeesAChangedByteAndAMissingOne) {
  Bytes segment = bytes_like_wal(kReceivedSegment);
  const ReceivedWal wal = received(segment, 8192);
  segment[2 * kFrame + 5] ^= std::byte{1};
  wal.check(kFrame, ByteView(segment).subspan(kFrame, kFrame), "wal");
  const ByteView changed = ByteView(segment).subspan(2 * kFrame, kFrame);
  EXPECT_THROW(wal.check(2 * kFrame, changed, "wal"), Error);
  EXPECT_THROW(wal.check(0, ByteView(segment).first(kFrame - 1), "wal"), Error);
}

}  // namespace
}  // namespace holdfast::backup
