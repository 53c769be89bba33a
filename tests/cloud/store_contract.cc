// The contract suite of ObjectStore on the store that HOLDFAST_CONTRACT_URI names. Each test gets a
// directory of its own below it, with the name of a key that every service must escape.
#include <cstdlib>

#include "base/clock.h"
#include "storage/open_store.h"
#include "storage/testing/object_store_contract.h"

namespace holdfast::storage {
namespace {

struct MakeFromUri {
  std::unique_ptr<ObjectStore> operator()() {
    static int number = 0;
    const char* text = std::getenv("HOLDFAST_CONTRACT_URI");
    if (text == nullptr) {
      throw Error(sqlstate::kInvalidParameterValue, "HOLDFAST_CONTRACT_URI is not set");
    }
    std::string uri = text;
    const std::size_t query = std::min(uri.find('?'), uri.size());
    uri.insert(query, "/contract%20%2B%26%3D'%C3%A4/" +
                          std::to_string(Clock::system().now().time_since_epoch().count()) + "-" +
                          std::to_string(++number));
    const char* ca_file = std::getenv("HOLDFAST_CONTRACT_CA_FILE");
    return open_store(uri, {.ca_file = ca_file == nullptr ? "" : ca_file});
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Cloud, ObjectStoreContract, MakeFromUri);

}  // namespace
}  // namespace holdfast::storage
