#pragma once

#include <optional>
#include <variant>
#include <vector>

#include "sql/statements.h"

namespace holdfast::sql {

/// Calls `f` with every Text, Subdirectory, Expression and Query of a statement, const or not, in
/// no promised order. A Subdirectory's own Text is left to `f`.
template <typename StatementType, typename F>
void visit_parts(StatementType& statement, F&& f) {
  auto optional = [&](auto& part) {
    if (part) f(*part);
  };
  auto uris = [&](auto& list) {
    for (auto& uri : list) f(uri);
  };
  auto options = [&](auto& given) {
    for (auto& option : given.list) uris(option.values);
  };
  auto full_backup = [&](auto& full) {
    if (full) f(full->recurrence);
  };
  std::visit(
      [&](auto& s) {
        if constexpr (requires { s.onto; }) optional(s.onto);
        if constexpr (requires { s.from; }) f(s.from);
        if constexpr (requires { s.subdirectory; }) optional(s.subdirectory);
        if constexpr (requires { s.into; }) uris(s.into);
        if constexpr (requires { s.added; }) {
          f(s.in);
          for (auto* keys : {&s.added, &s.old}) {
            uris(keys->kms);
            optional(keys->passphrase);
          }
        } else if constexpr (requires { s.in; }) {
          uris(s.in);
        }
        if constexpr (requires { s.as_of; }) optional(s.as_of);
        if constexpr (requires { s.newer_than; }) optional(s.newer_than);
        if constexpr (requires { s.older_than; }) optional(s.older_than);
        if constexpr (requires { s.id.has_value(); }) optional(s.id);
        if constexpr (requires { s.job; }) f(s.job);
        if constexpr (requires { s.select; }) optional(s.select);
        if constexpr (requires { s.reason; }) optional(s.reason);
        if constexpr (requires { s.label; }) optional(s.label);
        if constexpr (requires { s.options; }) options(s.options);
        if constexpr (requires { s.schedule_options; }) options(s.schedule_options);
        if constexpr (requires { s.full_backup; }) full_backup(s.full_backup);
        if constexpr (requires { s.recurring.value.size(); }) {
          f(s.recurring);
        } else if constexpr (requires { s.recurring; }) {
          optional(s.recurring);
        }
        if constexpr (requires { s.name.value.size(); }) {
          f(s.name);
        } else if constexpr (requires { s.name; }) {
          optional(s.name);
        }
        if constexpr (requires { s.uri; }) f(s.uri);
        if constexpr (requires { s.place; }) {
          f(s.place.location);
          optional(s.place.config);
          optional(s.place.credentials);
        }
        if constexpr (requires { s.tags; }) uris(s.tags);
      },
      statement);
}

}  // namespace holdfast::sql
