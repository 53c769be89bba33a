#pragma once

namespace holdfast::base {
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line) noexcept;
}

/// For invariants of our own code, never for input. Checked in every build: a program that holds
/// the only copy of somebody's data must stop rather than go on with a broken assumption.
#define HF_ASSERT(condition)          \
  ((condition) ? static_cast<void>(0) \
               : ::holdfast::base::assertion_failed(#condition, __FILE__, __LINE__))
