#include "storage/listing.h"

#include <fmt/format.h>

#include "base/error.h"

namespace holdfast::storage {

void ListPages::next(const std::string& token, std::string_view what) {
  if (tokens_.insert(token).second) return;
  throw Error(sqlstate::kIoError, fmt::format("could not list {}: the server repeats a page", what))
      .retry(Retry::Safe);
}

}  // namespace holdfast::storage
