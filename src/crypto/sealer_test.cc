#include "crypto/sealer.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace holdfast::crypto {
namespace {

std::string state_of(const auto& action) {
  try {
    action();
  } catch (const Error& error) {
    return std::string(error.state().view());
  }
  return "";
}

TEST(Sealer, OpensWhatItSealed) {
  const Sealer sealer(random_bytes(Sealer::kKeyBytes));
  for (const std::string_view text : {"", "x", "s3://bucket/?AWS_SECRET_ACCESS_KEY=hush"}) {
    const Bytes sealed = sealer.seal(as_bytes(text), "jobs.7");
    EXPECT_EQ(as_text(sealer.open(sealed, "jobs.7")), text);
    EXPECT_EQ(as_text(sealed).find("hush"), std::string_view::npos);
  }
}

TEST(Sealer, NeverSealsTheSameWayTwice) {
  const Sealer sealer(random_bytes(Sealer::kKeyBytes));
  EXPECT_NE(sealer.seal(as_bytes("same"), "p"), sealer.seal(as_bytes("same"), "p"));
}

TEST(Sealer, RefusesAValueFromAnotherPlaceOrKey) {
  const Sealer sealer(random_bytes(Sealer::kKeyBytes));
  const Sealer other(random_bytes(Sealer::kKeyBytes));
  const Bytes sealed = sealer.seal(as_bytes("secret"), "jobs.7");
  EXPECT_EQ(state_of([&] { sealer.open(sealed, "jobs.8"); }), "XX001");
  EXPECT_EQ(state_of([&] { other.open(sealed, "jobs.7"); }), "XX001");
}

TEST(Sealer, RefusesEveryChangedBitAndEveryTruncation) {
  const Sealer sealer(random_bytes(Sealer::kKeyBytes));
  const Bytes sealed = sealer.seal(as_bytes("secret"), "p");
  for (std::size_t bit = 0; bit < sealed.size() * 8; ++bit) {
    Bytes changed = sealed;
    changed[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_NE(state_of([&] { sealer.open(changed, "p"); }), "") << "bit " << bit;
  }
  for (std::size_t size = 0; size < sealed.size(); ++size) {
    EXPECT_EQ(state_of([&] { sealer.open(ByteView(sealed).first(size), "p"); }), "XX001");
  }
}

TEST(Sealer, NamesAVersionItDoesNotKnow) {
  const Sealer sealer(random_bytes(Sealer::kKeyBytes));
  Bytes sealed = sealer.seal(as_bytes("secret"), "p");
  sealed[0] = std::byte{2};
  EXPECT_EQ(state_of([&] { sealer.open(sealed, "p"); }), "0A000");
}

}  // namespace
}  // namespace holdfast::crypto
