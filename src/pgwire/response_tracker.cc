#include "pgwire/response_tracker.h"

namespace holdfast::pgwire {

ResponseTracker::Batch& ResponseTracker::open_batch() {
  if (!batch_open()) batches_.emplace_back();
  return batches_.back();
}

void ResponseTracker::sent(char type) {
  switch (type) {
    case frontend::kQuery:
    case frontend::kFunctionCall: {
      if (batch_failed()) return;  // skipped by the server, no answer
      Batch& batch = open_batch();
      batch.ended = true;
      batch.ended_by_query = true;
      return;
    }
    case frontend::kSync:
      // While it takes COPY data the server discards Sync and Flush.
      // Source: PostgreSQL src/backend/commands/copyfromparse.c (CopyGetData).
      if (!copy_in_) open_batch().ended = true;
      return;
    case frontend::kFlush:
      if (!copy_in_ && batch_open()) batches_.back().flushed = true;
      return;
    case frontend::kExecute:
      open_batch().executes = true;
      [[fallthrough]];
    case frontend::kParse:
    case frontend::kBind:
    case frontend::kDescribe:
    case frontend::kClose: {
      Batch& batch = open_batch();
      if (!batch.failed) ++batch.expected;
      batch.flushed = false;
      return;
    }
    case frontend::kCopyDone:
    case frontend::kCopyFail:
      copy_in_ = false;
      if (batch_open()) batches_.back().copy_ended = true;
      return;
    default:
      return;
  }
}

void ResponseTracker::begin_copy_in() {
  if (batches_.empty() || batches_.front().copy_ended) return;
  copy_in_ = true;
  Batch& batch = batches_.front();
  if (batch.ended_by_query) return;
  // What was sent behind the Execute arrives in the midst of the COPY: a Sync is discarded, and
  // any other message makes the COPY fail, so that the next Sync ends this batch.
  batch.ended = false;
  while (batches_.size() > 1) {
    const Batch next = batches_[1];
    batches_.erase(batches_.begin() + 1);
    if (next.expected == 0 && next.ended && !next.ended_by_query) continue;
    batch.ended = next.ended;
    break;
  }
}

void ResponseTracker::fail_front() {
  copy_in_ = false;
  if (batches_.empty()) return;
  Batch& batch = batches_.front();
  if (batch.ended_by_query && batch.expected > 0) {
    // The error was in a message before the Query, which the server skips then: the batch goes on
    // to the next Sync.
    batch.ended = batch.ended_by_query = false;
    if (batches_.size() > 1) {
      batch.ended = batches_[1].ended;
      batches_.erase(batches_.begin() + 1);
    }
  }
  batch.expected = 0;
  batch.failed = true;
}

void ResponseTracker::received(char type) {
  switch (type) {
    case backend::kReadyForQuery:
      copy_in_ = false;
      if (!batches_.empty()) batches_.pop_front();
      return;
    case backend::kErrorResponse:
      fail_front();
      return;
    case backend::kCopyInResponse:
    case backend::kCopyBothResponse:
      begin_copy_in();
      return;
    case backend::kParseComplete:
    case backend::kBindComplete:
    case backend::kCloseComplete:
    case backend::kNoData:
    case backend::kRowDescription:
    case backend::kEmptyQueryResponse:
    case backend::kPortalSuspended:
    case backend::kCommandComplete:
      if (type == backend::kCommandComplete) copy_in_ = false;
      // A Query answers with some of these types too, and any number of times.
      if (!batches_.empty() && batches_.front().expected > 0) --batches_.front().expected;
      return;
    default:
      return;
  }
}

}  // namespace holdfast::pgwire
