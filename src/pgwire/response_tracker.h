#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

#include "pgwire/protocol.h"

namespace holdfast::pgwire {

/// Counts what PostgreSQL still owes the client, from the types of the messages that pass in both
/// directions. The front door needs it to answer a statement of its own at the right place in a
/// pipeline, and to know who speaks next.
///
/// A batch is what ends in one ReadyForQuery: extended-protocol messages up to a Sync, or one
/// Query.
class ResponseTracker {
 public:
  /// A message of this type goes to the server.
  void sent(char type);
  /// A message of this type came from the server.
  void received(char type);

  /// Nothing is outstanding, though a batch may be open without a Sync.
  bool settled() const { return batches_.empty() || (!front().ended && front().expected == 0); }
  /// Neither outstanding answers nor an open batch.
  bool idle() const { return batches_.empty(); }
  /// The server must speak next, whatever the client does.
  bool server_speaks() const {
    return !copy_in_ && !batches_.empty() &&
           (front().ended || (front().flushed && front().expected > 0));
  }
  /// It depends on both sides: COPY from the client, or a batch with neither Sync nor Flush.
  bool either_speaks() const {
    return copy_in_ || (!batches_.empty() && !front().ended && front().expected > 0);
  }
  /// Several batches are on their way: the client may go on sending meanwhile.
  bool pipelined() const { return batches_.size() > 1; }
  /// The server waits for the client's CopyDone or CopyFail.
  bool copy_in() const { return copy_in_; }

  /// The open batch (after the last Sync) has messages in it.
  bool batch_open() const { return !batches_.empty() && !batches_.back().ended; }
  /// A statement was executed in the open batch: an implicit transaction block.
  bool batch_executes() const { return batch_open() && batches_.back().executes; }
  /// An error came in the open batch: the server skips everything until Sync.
  bool batch_failed() const { return batch_open() && batches_.back().failed; }

 private:
  struct Batch {
    std::uint32_t expected = 0;  ///< answers to extended-protocol messages
    bool ended = false;          ///< by Sync, Query or FunctionCall
    bool ended_by_query = false;
    bool executes = false;
    bool failed = false;
    bool flushed = false;
    bool copy_ended = false;  ///< a CopyDone or CopyFail is in it
  };
  const Batch& front() const { return batches_.front(); }
  Batch& open_batch();
  void begin_copy_in();
  void fail_front();

  std::deque<Batch> batches_;
  bool copy_in_ = false;
};

}  // namespace holdfast::pgwire
