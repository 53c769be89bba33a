#include "pgwire/result_sink.h"

#include <fmt/format.h>

#include "base/log.h"

namespace holdfast::pgwire {

namespace {
/// Rows are collected to this size before they are sent.
constexpr std::size_t kFlushBytes = 32 * 1024;
}  // namespace

ResultSink::ResultSink(Relay& relay, SessionHandle& handle, Columns mode,
                       std::span<const std::uint16_t> formats)
    : relay_(relay), handle_(handle), mode_(mode), formats_(formats) {}

ResultSink::ResultSink(Relay& relay, SessionHandle& handle, OwnPortal& portal)
    : relay_(relay),
      handle_(handle),
      mode_(Columns::Omit),
      formats_(portal.result_formats),
      portal_(&portal) {}

void ResultSink::flush() {
  if (client_gone_) return relay_.out().clear();
  try {
    relay_.flush();
  } catch (const Error& error) {
    log::info("the client has gone: {}", error.message());
    client_gone_ = true;
    relay_.out().clear();
    handle_.cancel();
  }
}

void ResultSink::columns(std::span<const sql::Column> columns) {
  MutexLock lock(mutex_);
  columns_.assign(columns.begin(), columns.end());
  if (formats_.size() > 1 && formats_.size() != columns_.size()) {
    throw Error(sqlstate::kProtocolViolation,
                fmt::format("bind message has {} result formats but query has {} columns",
                            formats_.size(), columns_.size()));
  }
  if (mode_ == Columns::Describe) write_row_description(relay_.out(), columns_, formats_);
}

void ResultSink::row(std::span<const sql::Value> values) {
  MutexLock lock(mutex_);
  if (portal_ != nullptr) {
    MessageWriter encoded;
    write_data_row(encoded, columns_, formats_, values);
    portal_->rows.emplace_back(as_text(encoded.view()));
    return;
  }
  write_data_row(relay_.out(), columns_, formats_, values);
  if (relay_.out().size() >= kFlushBytes) flush();
}

void ResultSink::notice(const sql::Notice& notice) {
  MutexLock lock(mutex_);
  write_notice(relay_.out(), notice);
  flush();
}

void ResultSink::complete(std::string_view tag) {
  MutexLock lock(mutex_);
  if (portal_ != nullptr) {
    portal_->tag = tag;
  } else {
    write_command_complete(relay_.out(), tag);
  }
}

}  // namespace holdfast::pgwire
