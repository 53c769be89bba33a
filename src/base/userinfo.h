#pragma once

#include <string>
#include <string_view>

namespace holdfast {

/// `text` is a URI, or part of one, behind its "://". Hides the user's password before the host:
/// "user:hush@host/p?q" becomes "user:redacted@host/p?q", and of "token@host" nothing stays but the
/// host. A password is also known for one that somebody wrote without encoding its "/", "?", "#" or
/// "@"; then more than it may be hidden, never less. Source: RFC 3986, section 3.2.1.
std::string redact_userinfo(std::string_view text);

}  // namespace holdfast
