#include <algorithm>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/redact_query.h"
#include "base/userinfo.h"
#include "sql/lexer.h"
#include "sql/parser.h"
#include "sql/printer.h"
#include "sql/redact_internal.h"
#include "sql/skim.h"
#include "sql/string_literal.h"

namespace holdfast::sql {
namespace {

constexpr std::string_view kRedacted = "redacted";

std::string upper(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
  }
  return result;
}

/// Index of the ':' that ends the scheme, or npos when the text does not begin like a URI.
std::size_t scheme_end(std::string_view text) {
  std::size_t i = 0;
  auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  auto part = [&](char c) {
    return letter(c) || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
  };
  if (text.empty() || !letter(text.front())) return std::string_view::npos;
  while (i < text.size() && part(text[i])) ++i;
  return i + 1 < text.size() && text[i] == ':' && text[i + 1] == '/' ? i : std::string_view::npos;
}

bool names_key(std::string_view scheme, std::string_view authority) {
  std::string name = upper(scheme);
  return name == "AWS" || name == "AWS-KMS" || name == "GCP-KMS" || name == "AZURE-KMS" ||
         (name == "GS" && authority.empty());
}

enum class UriKind { Storage, MasterKey };

std::string redact(std::string_view uri, UriKind kind) {
  std::size_t colon = scheme_end(uri);
  if (colon == std::string_view::npos) {
    // No URI, but perhaps one that lost its head: parameters are hidden all the same.
    std::size_t question = uri.find('?');
    if (question == std::string_view::npos) {
      return kind == UriKind::MasterKey ? std::string(kRedacted) : std::string(uri);
    }
    std::string head(kind == UriKind::MasterKey ? kRedacted : uri.substr(0, question));
    return head + '?' + redact_query(uri.substr(question + 1));
  }
  std::string result(uri.substr(0, colon + 1));
  std::string plain(uri.substr(colon + 1));
  if (plain.starts_with("//")) plain = "//" + redact_userinfo(std::string_view(plain).substr(2));
  std::string_view rest = plain;
  std::size_t question = std::min(rest.find('?'), rest.size());
  std::string_view query = rest.substr(question);
  rest = rest.substr(0, question);
  std::string_view authority;
  if (rest.starts_with("//")) {
    std::size_t path = std::min(rest.find('/', 2), rest.size());
    authority = rest.substr(2, path - 2);
    rest.remove_prefix(path);
    result += "//";
    result += authority;
  }
  if ((kind == UriKind::MasterKey || names_key(uri.substr(0, colon), authority)) &&
      rest.size() > 1) {
    result += '/';
    result += kRedacted;
  } else {
    result += rest;
  }
  if (query.empty()) return result;
  return result + '?' + redact_query(query.substr(1));
}

/// Whether a word is the name of an option whose string is a secret, or names master keys.
Secret secret_of(std::string_view word) {
  std::string lower(word);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  if (lower == "new_kms" || lower == "old_kms") return Secret::KmsUri;
  if (lower == "new_passphrase" || lower == "old_passphrase") return Secret::Yes;
  const OptionSpec* spec = find_option(lower, ~0u);
  return spec == nullptr ? Secret::No : spec->secret;
}

bool is_plain_uri(std::string_view text) { return scheme_end(text) != std::string_view::npos; }

}  // namespace

std::string redact_uri(std::string_view uri) { return redact(uri, UriKind::Storage); }

std::string redact_kms_uri(std::string_view uri) {
  // The name of an external connection is no key.
  if (uri.starts_with("external:")) return redact(uri, UriKind::Storage);
  return redact(uri, UriKind::MasterKey);
}

namespace {

/// Decides piece by piece how a source text is shown; remembers the option whose value comes next.
class SourceRedactor {
 public:
  SourceRedactor(std::string_view source, Strings others) : source_(source), others_(others) {}

  std::string run() {
    Skimmer skimmer(source_);
    std::size_t end = 0;
    for (Piece piece = skimmer.next(); piece.kind != Piece::Kind::End; piece = skimmer.next()) {
      // Comments are left out: what they hold is anybody's guess.
      if (piece.offset > end && !result_.empty()) result_ += ' ';
      end = piece.end;
      show(piece);
      if (piece.kind == Piece::Kind::Broken) break;
    }
    return std::move(result_);
  }

 private:
  void show(const Piece& piece) {
    std::string_view text = piece.of(source_);
    bool hide_bare = secret_ == Secret::Yes && others_ == Strings::Hide;
    switch (piece.kind) {
      case Piece::Kind::Broken:
        return hide();
      case Piece::Kind::String:
        return string(decode_string(text));
      case Piece::Kind::QuotedName:
        return others_ == Strings::Hide ? hide() : keep(text);
      case Piece::Kind::Number:
      case Piece::Kind::Parameter:
        return hide_bare ? hide() : keep(text);
      case Piece::Kind::Word:
        if (Secret named = secret_of(text); named != Secret::No) {
          secret_ = named;
        } else if (hide_bare) {
          return hide();
        } else {
          secret_ = Secret::No;
        }
        return keep(text);
      default:
        if (text == ")" || text == "]" || (text == "," && secret_ == Secret::Yes)) {
          secret_ = Secret::No;
        }
        return keep(text);
    }
  }
  void string(const std::string& value) {
    if (secret_ == Secret::Yes) {
      hide();
    } else if (secret_ == Secret::KmsUri) {
      keep(quote_literal(redact_kms_uri(value)));
    } else if (is_plain_uri(value) || others_ == Strings::Keep) {
      keep(quote_literal(redact_uri(value)));
    } else {
      hide();
    }
  }
  void hide() { result_ += quote_literal(kHidden); }
  void keep(std::string_view text) { result_ += text; }

  std::string_view source_;
  Strings others_;
  Secret secret_ = Secret::No;
  std::string result_;
};

}  // namespace

std::string redact_source(std::string_view source, Strings others) {
  return SourceRedactor(source, others).run();
}

std::string redact_text(std::string_view statement) {
  try {
    return print(parse(statement), Redact::Secrets);
  } catch (const Error&) {
    return redact_source(statement, Strings::Hide);
  }
}

}  // namespace holdfast::sql
