#include "pgwire/session.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "pgwire/message_reader.h"
#include "pgwire/protocol.h"

namespace holdfast::pgwire {

namespace {

/// Longer messages are passed on unread: a statement of ours fits, and COPY data, rows to insert
/// and the like need not be held in memory.
constexpr std::size_t kMaxExaminedBytes = 1 << 20;

bool is_named_message(char type) {
  return type == frontend::kBind || type == frontend::kDescribe || type == frontend::kExecute ||
         type == frontend::kClose;
}

std::string_view query_text(const Message& message) {
  const std::string_view body = as_text(message.body);
  return body.substr(0, body.find('\0'));
}

/// Without the white space and semicolons at the end.
std::string_view trimmed(std::string_view text) {
  const std::size_t last = text.find_last_not_of("; \t\r\n\f\v");
  return last == std::string_view::npos ? std::string_view() : text.substr(0, last + 1);
}

}  // namespace

void Session::run() {
  while (process_input(Who::OwnThread) != Progress::Terminated) wait();
}

void Session::wait() {
  relay_.flush();
  // What TLS holds decrypted already, the loop's poll would not see.
  if (loop_ == nullptr || !relay_.has_server() || client_.buffered())
    return relay_.wait_for_client();
  if (loop_->ride(*this, client_.fd(), relay_.server_fd()) == Step::Ended)
    relay_.wait_for_client();  // sees the end too, and tells which side's it is
}

Passenger::Step Session::on_client_readable() {
  do {
    if (const Step step = relay_.read_client_now(); step != Step::Stay) return step;
    if (process_input(Who::Loop) != Progress::NeedsInput) return Step::GetOff;
  } while (client_.buffered());
  return Step::Stay;
}

Session::Progress Session::process_input(Who who) {
  if (who == Who::OwnThread) relay_.forward_rest();
  ReadBuffer& input = relay_.client_input();
  for (;;) {
    const ByteView data = input.data();
    std::size_t pass = 0;
    std::size_t size = 0;
    Verdict verdict = Verdict::Pass;
    while (pass < data.size() && verdict == Verdict::Pass) {
      if (pass_left_ > 0) {
        const std::size_t part = std::min(pass_left_, data.size() - pass);
        pass += part;
        pass_left_ -= part;
        continue;
      }
      if (drop_left_ > 0) {
        verdict = Verdict::Drop;
        size = drop_left_;
        break;
      }
      const auto whole = message_size(data.subspan(pass), kMaxMessageBytes);
      if (!whole) break;
      size = *whole;
      const char type = static_cast<char>(data[pass]);
      verdict = judge(type, data.subspan(pass, std::min(size, data.size() - pass)), size);
      if (verdict == Verdict::Pass) {
        relay_.tracker().sent(type);
        pass_left_ = size;
      }
    }
    if (pass > 0) {
      if (who == Who::Loop) {
        if (!relay_.forward_now(data.first(pass))) return Progress::NeedsThread;
      } else {
        relay_.forward(data.first(pass));
        input.consume(pass);
      }
    }
    switch (verdict) {
      case Verdict::Pass:
        return Progress::NeedsInput;
      case Verdict::NeedWhole:
        input.reserve(size);
        return Progress::NeedsInput;
      case Verdict::Drop:
        drop_left_ = size;
        size = std::min(size, input.size());
        drop_left_ -= size;
        input.consume(size);
        break;
      case Verdict::Own: {
        if (who == Who::Loop) return Progress::NeedsThread;
        // A copy, because more input may arrive while the message is handled.
        const Bytes bytes(input.data().begin(),
                          input.data().begin() + static_cast<std::ptrdiff_t>(size));
        input.consume(size);
        const Message message = *first_message(bytes, kMaxMessageBytes);
        if (message.type == frontend::kTerminate) {
          relay_.flush();
          if (relay_.has_server()) relay_.forward(message.whole);
          return Progress::Terminated;
        }
        handle(message);
        break;
      }
    }
  }
}

Session::Verdict Session::judge(char type, ByteView available, std::size_t size) {
  if (type == frontend::kTerminate)
    return available.size() < size ? Verdict::NeedWhole : Verdict::Own;
  // During COPY, PostgreSQL judges what else may come.
  if (relay_.has_server() && relay_.tracker().copy_in()) return Verdict::Pass;
  if (type == frontend::kSync) {
    ++batch_;
    if (relay_.has_server() && !skip_to_sync_) return Verdict::Pass;
    return available.size() < size ? (--batch_, Verdict::NeedWhole) : Verdict::Own;
  }
  if (skip_to_sync_) return Verdict::Drop;
  if (relay_.has_server()) {
    const bool named = is_named_message(type) && (!statements_.empty() || !portals_.empty());
    if (type != frontend::kQuery && type != frontend::kParse && !named) return Verdict::Pass;
    if (size > kMaxExaminedBytes) return Verdict::Pass;
  } else if (size > kMaxExaminedBytes) {
    return Verdict::Drop;
  }
  if (available.size() < size) return Verdict::NeedWhole;
  if (!relay_.has_server()) return Verdict::Own;
  return judge_whole(*first_message(available, kMaxMessageBytes));
}

Session::Verdict Session::judge_whole(const Message& message) {
  MessageReader reader(message.body);
  switch (message.type) {
    case frontend::kQuery:
      return judge_query(query_text(message));
    case frontend::kParse:
      return judge_parse(message);
    case frontend::kBind: {
      const std::string_view portal = reader.string();
      if (statements_.contains(reader.string())) return Verdict::Own;
      // PostgreSQL's portal takes the name over.
      if (const auto found = portals_.find(portal); found != portals_.end()) portals_.erase(found);
      return Verdict::Pass;
    }
    case frontend::kExecute:
      return portals_.contains(reader.string()) ? Verdict::Own : Verdict::Pass;
    default: {  // Describe or Close
      const bool statement = reader.u8() == 'S';
      const std::string_view name = reader.string();
      const bool ours = statement ? statements_.contains(name) : portals_.contains(name);
      return ours ? Verdict::Own : Verdict::Pass;
    }
  }
}

Session::Verdict Session::judge_query(std::string_view text) {
  const std::string_view statement = trimmed(text);
  if (statement.find(';') == std::string_view::npos) {
    return runner_.recognise(statement) == sql::StatementKind::NotOurs ? Verdict::Pass
                                                                       : Verdict::Own;
  }
  const std::vector<Piece> pieces = find_pieces(text);
  const bool foreign = std::all_of(pieces.begin(), pieces.end(), [](const Piece& piece) {
    return piece.kind == sql::StatementKind::NotOurs;
  });
  return foreign ? Verdict::Pass : Verdict::Own;
}

Session::Verdict Session::judge_parse(const Message& message) {
  MessageReader reader(message.body);
  const std::string_view name = reader.string();
  if (runner_.recognise(reader.string()) != sql::StatementKind::NotOurs) return Verdict::Own;
  const auto found = statements_.find(name);
  if (found == statements_.end()) return Verdict::Pass;
  // A new unnamed statement replaces the old one; another name is taken, and that is ours to say.
  if (!name.empty()) return Verdict::Own;
  statements_.erase(found);
  return Verdict::Pass;
}

std::vector<Session::Piece> Session::find_pieces(std::string_view text) const {
  std::vector<Piece> pieces;
  for (const sql::TextRange& range : sql::split(text))
    pieces.push_back({.kind = runner_.recognise(range.of(text)), .range = range});
  return pieces;
}

void Session::handle(const Message& message) {
  relay_.settle();
  if (relay_.has_server() && relay_.tracker().copy_in()) return relay_.forward_message(message);
  if (message.type == frontend::kSync) return handle_sync();
  // An earlier error in this batch: PostgreSQL skips to Sync, and so do we.
  if (relay_.tracker().batch_failed()) return;
  if (message.type == frontend::kQuery) return handle_query(query_text(message));
  handle_extended(message);
}

bool Session::server_available() const {
  relay_.check_server();
  return relay_.has_server();
}

bool Session::in_transaction() const {
  return several_statements_ || relay_.transaction_status() != transaction::kIdle ||
         relay_.tracker().batch_executes();
}

sql::QueryResult Session::query(std::string_view text) { return relay_.query(text); }

}  // namespace holdfast::pgwire
