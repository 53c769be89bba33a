#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <utility>

#include "base/bytes.h"
#include "base/unique_fd.h"

namespace holdfast::net {

/// A connected byte stream, plain or TLS. Used by one thread at a time, but for interrupt().
/// Failures of the connection (reset, TLS errors) throw Error with kConnectionFailure.
class Stream {
 public:
  virtual ~Stream() = default;

  /// What has arrived, without waiting. 0: the peer has closed. Absent: nothing yet.
  virtual std::optional<std::size_t> try_read(MutableByteView into) = 0;
  /// The same, but waits a moment (kMoment) first, which costs fewer system calls than poll and
  /// then read when an answer is near.
  virtual std::optional<std::size_t> read_soon(MutableByteView into) = 0;
  /// Sends what fits without waiting; returns how much, which may be 0. The next write must begin
  /// with the bytes that were left.
  virtual std::size_t try_write(ByteView bytes) = 0;
  /// Sends everything, waiting as long as it takes.
  virtual void write_all(ByteView bytes) = 0;

  /// True when try_read() would return something that poll(2) on fd() does not know of.
  virtual bool buffered() const = 0;
  /// To poll on; -1 for a stream in memory, which is always buffered().
  virtual int fd() const = 0;
  virtual bool encrypted() const = 0;

  static constexpr std::chrono::milliseconds kMoment{10};
};

/// Which of two streams have something to read (or have ended).
struct Readiness {
  bool first = false;
  bool second = false;
  bool writable = false;  ///< only when it was asked for
};

/// Absent: no limit.
using Deadline = std::optional<std::chrono::steady_clock::time_point>;

/// Waits until one of the streams is readable or ended; all false when the deadline passed first.
/// `second` may be null.
Readiness wait_readable(const Stream& first, const Stream* second, Deadline deadline);
/// Waits until `stream` can take more bytes, or has some to read (`first`).
Readiness wait_writable_or_readable(const Stream& stream);
/// Waits for at least one byte. 0 when the peer has closed; absent when the deadline passed.
std::optional<std::size_t> read_before(Stream& stream, MutableByteView into, Deadline deadline);

/// A stream over a connected socket, which it owns. Prepares the socket (TCP_NODELAY, keepalive).
class SocketStream : public Stream {
 public:
  explicit SocketStream(UniqueFd socket);

  std::optional<std::size_t> try_read(MutableByteView into) override;
  std::optional<std::size_t> read_soon(MutableByteView into) override;
  std::size_t try_write(ByteView bytes) override;
  void write_all(ByteView bytes) override;
  bool buffered() const override { return false; }
  int fd() const override { return socket_.get(); }
  bool encrypted() const override { return false; }

  /// Gives the socket away, to put TLS over it.
  UniqueFd release() { return std::move(socket_); }

 private:
  std::optional<std::size_t> receive(MutableByteView into, int flags);

  UniqueFd socket_;
};

}  // namespace holdfast::net
