#include "storage/memory_store.h"

#include "storage/testing/object_store_contract.h"
#include "storage/wrappers.h"

namespace holdfast::storage {
namespace {

struct MakeMemory {
  std::unique_ptr<ObjectStore> operator()() { return std::make_unique<MemoryStore>(); }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Memory, ObjectStoreContract, MakeMemory);

struct MakeWrapped {
  std::unique_ptr<ObjectStore> operator()() {
    return with_retry(with_log(
        with_rate_limit(std::make_unique<MemoryStore>(), std::make_shared<RateLimits>(0, 0))));
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Wrapped, ObjectStoreContract, MakeWrapped);

}  // namespace
}  // namespace holdfast::storage
