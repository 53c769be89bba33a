#include "sql/recognise.h"

#include <algorithm>
#include <initializer_list>

#include "sql/row_source.h"
#include "sql/skim.h"

namespace holdfast::sql {
namespace {

using Words = std::initializer_list<std::string_view>;

bool one_of(const Piece& piece, std::string_view text, Words words) {
  return piece.kind == Piece::Kind::Word &&
         std::any_of(words.begin(), words.end(),
                     [&](std::string_view word) { return word_is(piece.of(text), word); });
}

/// SHOW jobs.limit reads a setting of that name, so a point after the word makes it PostgreSQL's.
bool show_is_ours(Skimmer& skimmer, std::string_view text) {
  Piece second = skimmer.next();
  if (one_of(second, text, {"wal"})) return one_of(skimmer.next(), text, {"archives"});
  // SHOW milestones reads a setting.
  if (one_of(second, text, {"milestones"})) return one_of(skimmer.next(), text, {"in"});
  if (one_of(second, text, {"create"})) {
    return one_of(skimmer.next(), text, {"schedule", "all", "external"});
  }
  return one_of(second, text,
                {"backup", "backups", "job", "jobs", "automatic", "schedule", "schedules",
                 "running", "paused", "external", "changefeed"}) &&
         !skimmer.next().is('.', text);
}

/// A prepared statement may be called "schedule": EXECUTE schedule and EXECUTE schedule (1) run it.
/// PostgreSQL takes no subquery among the parameters.
bool execute_is_ours(Skimmer& skimmer, std::string_view text) {
  if (!one_of(skimmer.next(), text, {"schedule", "schedules"})) return false;
  Piece third = skimmer.next();
  if (third.kind == Piece::Kind::End || third.is(';', text)) return false;
  while (third.is('(', text)) {
    third = skimmer.next();
    if (one_of(third, text, {"select", "with", "values", "table"})) return true;
    if (!third.is('(', text)) return false;
  }
  return true;
}

bool external_connection(Skimmer& skimmer, std::string_view text) {
  return one_of(skimmer.next(), text, {"connection"});
}

/// GRANT and REVOKE … ON EXTERNAL CONNECTION; all others are PostgreSQL's.
bool grant_is_ours(Skimmer& skimmer, std::string_view text) {
  constexpr int kFurthest = 16;  // pieces before ON: a list of privileges
  for (int i = 0; i < kFurthest; ++i) {
    const Piece piece = skimmer.next();
    if (piece.kind == Piece::Kind::End || piece.kind == Piece::Kind::Broken) return false;
    if (!one_of(piece, text, {"on"})) continue;
    return one_of(skimmer.next(), text, {"external"}) && external_connection(skimmer, text);
  }
  return false;
}

bool wal_archive(Skimmer& skimmer, std::string_view text) {
  return one_of(skimmer.next(), text, {"archive"});
}

/// PostgreSQL's DELETE goes on with FROM.
bool delete_is_ours(Skimmer& skimmer, std::string_view text) {
  return one_of(skimmer.next(), text, {"backups"}) &&
         one_of(skimmer.next(), text, {"older", "keep"});
}

bool show_follows(std::string_view text, std::size_t after_bracket) {
  std::size_t i = after_bracket;
  while (i < text.size() && is_blank(text[i])) ++i;
  // A comment before SHOW is rare enough to leave to the full search.
  if (i < text.size() && (text[i] == '/' || text[i] == '-')) return true;
  return i < text.size() && (text[i] == 's' || text[i] == 'S') &&
         word_is(text.substr(i, 4), "show");
}

/// Our tables in information_schema have names that begin so.
bool ends_in_mv(std::string_view text) {
  return text.size() >= 2 && word_is(text.substr(text.size() - 2), "mv");
}

StatementKind query_kind(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (((text[i] == '[' || text[i] == '(') && show_follows(text, i + 1)) ||
        (text[i] == '_' && ends_in_mv(text.substr(0, i)))) {
      return find_row_sources(text).empty() ? StatementKind::NotOurs : StatementKind::Rewritten;
    }
  }
  return StatementKind::NotOurs;
}

StatementKind ours_if(bool ours) { return ours ? StatementKind::Ours : StatementKind::NotOurs; }

}  // namespace

StatementKind recognise(std::string_view text) noexcept {
  Skimmer skimmer(text);
  Piece first = skimmer.next();
  if (first.is('(', text)) return query_kind(text);
  if (first.kind != Piece::Kind::Word) return StatementKind::NotOurs;
  auto is = [&](std::string_view word) { return word_is(first.of(text), word); };
  switch (text[first.offset] | 0x20) {
    case 'a':
      if (is("alter")) {
        Piece second = skimmer.next();
        if (one_of(second, text, {"external"})) return ours_if(external_connection(skimmer, text));
        return ours_if(one_of(second, text, {"backup", "job"}));
      }
      break;
    case 'b':
      return ours_if(is("backup"));
    case 'c':
      if (is("cancel")) return StatementKind::Ours;
      if (is("check")) return ours_if(one_of(skimmer.next(), text, {"external"}));
      if (is("clear")) return ours_if(one_of(skimmer.next(), text, {"backup_history"}));
      if (is("copy")) return query_kind(text);
      if (is("create")) {
        Piece second = skimmer.next();
        if (one_of(second, text, {"external"})) return ours_if(external_connection(skimmer, text));
        if (one_of(second, text, {"schedule", "milestone"})) return StatementKind::Ours;
        if (one_of(second, text, {"wal"})) return ours_if(wal_archive(skimmer, text));
        if (one_of(second, text, {"table", "temp", "temporary", "unlogged", "local", "global"})) {
          return query_kind(text);
        }
      }
      break;
    case 'd':
      if (is("drop")) {
        Piece second = skimmer.next();
        if (one_of(second, text, {"external"})) return ours_if(external_connection(skimmer, text));
        if (one_of(second, text, {"wal"})) return ours_if(wal_archive(skimmer, text));
        return ours_if(one_of(second, text, {"schedule", "schedules"}));
      }
      if (is("delete") && delete_is_ours(skimmer, text)) return StatementKind::Ours;
      if (is("delete") || is("declare")) return query_kind(text);
      break;
    case 'e':
      if (is("execute")) return ours_if(execute_is_ours(skimmer, text));
      if (is("explain")) return query_kind(text);
      break;
    case 'g':
      return ours_if(is("grant") && grant_is_ours(skimmer, text));
    case 'i':
      if (is("insert")) return query_kind(text);
      break;
    case 'm':
      if (is("merge")) return query_kind(text);
      break;
    case 'p':
      return ours_if(is("pause"));
    case 'r':
      if (is("revoke")) return ours_if(grant_is_ours(skimmer, text));
      return ours_if(is("restore") || is("resume"));
    case 's':
      if (is("select")) return query_kind(text);
      if (is("show")) return ours_if(show_is_ours(skimmer, text));
      break;
    case 't':
      if (is("table")) return query_kind(text);
      break;
    case 'u':
      if (is("update")) return query_kind(text);
      break;
    case 'v':
      if (is("verify")) return ours_if(one_of(skimmer.next(), text, {"backup"}));
      if (is("values")) return query_kind(text);
      break;
    case 'w':
      if (is("with")) return query_kind(text);
      break;
    default:
      break;
  }
  return StatementKind::NotOurs;
}

}  // namespace holdfast::sql
