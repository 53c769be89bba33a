#include "storage/wrappers.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "base/error.h"
#include "base/log.h"

namespace holdfast::storage {

namespace {

class RetryStore : public ObjectStore {
 public:
  RetryStore(std::unique_ptr<ObjectStore> store, const RetryPolicy& policy)
      : store_(std::move(store)), policy_(policy) {}

  PutResult put(const ObjectKey& key, ByteView bytes, PutMode mode, const Stop& stop) override {
    bool failed_before = false;
    return repeat(stop, [&] {
      try {
        const PutResult result = store_->put(key, bytes, mode, stop);
        if (result == PutResult::Taken && failed_before && holds(key, bytes, stop)) {
          return PutResult::Stored;
        }
        return result;
      } catch (const Error&) {
        failed_before = true;
        throw;
      }
    });
  }
  bool get_into(const ObjectKey& key, std::uint64_t offset, MutableByteView into,
                const Stop& stop) override {
    return repeat(stop, [&] { return store_->get_into(key, offset, into, stop); });
  }
  std::optional<ObjectInfo> stat(const ObjectKey& key, const Stop& stop) override {
    return repeat(stop, [&] { return store_->stat(key, stop); });
  }
  void list(const ObjectKey& prefix, const std::function<void(const ObjectInfo&)>& visit,
            const Stop& stop) override {
    // Collected first: what was visited before a failure must not be visited again.
    const std::vector<ObjectInfo> found = repeat(stop, [&] {
      std::vector<ObjectInfo> objects;
      store_->list(
          prefix, [&](const ObjectInfo& info) { objects.push_back(info); }, stop);
      return objects;
    });
    for (const ObjectInfo& info : found) visit(info);
  }
  std::vector<std::string> list_directories(const ObjectKey& prefix, const Stop& stop) override {
    return repeat(stop, [&] { return store_->list_directories(prefix, stop); });
  }
  void remove(const ObjectKey& key, const Stop& stop) override {
    repeat(stop, [&] {
      store_->remove(key, stop);
      return true;
    });
  }
  std::string description() const override { return store_->description(); }

 private:
  template <typename Call>
  auto repeat(const Stop& stop, const Call& call) -> decltype(call()) {
    std::chrono::milliseconds delay = policy_.first_delay;
    for (unsigned attempt = 1;; ++attempt) {
      std::chrono::milliseconds asked{0};
      try {
        return call();
      } catch (const Error& error) {
        const unsigned attempts = error.retry() == Retry::Briefly
                                      ? std::min(policy_.attempts, policy_.brief_attempts)
                                      : policy_.attempts;
        if (!error.retry_is_safe() || attempt >= attempts) throw;
        log::warning("{}; trying again attempt={} of={}", error.message(), attempt + 1, attempts);
        asked = std::min(error.retry_after(), policy_.longest_asked_delay);
      }
      thread_local std::minstd_rand random(std::random_device{}());
      // On top of what the server asks for, so that not all come back at the same moment.
      stop.sleep(asked + std::chrono::milliseconds(
                             std::uniform_int_distribution<std::chrono::milliseconds::rep>(
                                 0, delay.count())(random)));
      delay = std::min(delay * 2, policy_.longest_delay);
    }
  }

  bool holds(const ObjectKey& key, ByteView bytes, const Stop& stop) {
    const std::optional<ObjectInfo> info = store_->stat(key, stop);
    if (!info || info->size != bytes.size()) return false;
    const std::optional<Bytes> there = get_whole(*store_, key, bytes.size(), stop);
    return there && std::equal(there->begin(), there->end(), bytes.begin(), bytes.end());
  }

  const std::unique_ptr<ObjectStore> store_;
  const RetryPolicy policy_;
};

class LogStore : public ObjectStore {
 public:
  explicit LogStore(std::unique_ptr<ObjectStore> store) : store_(std::move(store)) {}

  PutResult put(const ObjectKey& key, ByteView bytes, PutMode mode, const Stop& stop) override {
    const Line line("put", key, bytes.size());
    return store_->put(key, bytes, mode, stop);
  }
  bool get_into(const ObjectKey& key, std::uint64_t offset, MutableByteView into,
                const Stop& stop) override {
    const Line line("get", key, into.size());
    return store_->get_into(key, offset, into, stop);
  }
  std::optional<ObjectInfo> stat(const ObjectKey& key, const Stop& stop) override {
    const Line line("stat", key, 0);
    return store_->stat(key, stop);
  }
  void list(const ObjectKey& prefix, const std::function<void(const ObjectInfo&)>& visit,
            const Stop& stop) override {
    const Line line("list", prefix, 0);
    store_->list(prefix, visit, stop);
  }
  std::vector<std::string> list_directories(const ObjectKey& prefix, const Stop& stop) override {
    const Line line("list directories", prefix, 0);
    return store_->list_directories(prefix, stop);
  }
  void remove(const ObjectKey& key, const Stop& stop) override {
    const Line line("remove", key, 0);
    store_->remove(key, stop);
  }
  std::string description() const override { return store_->description(); }

 private:
  /// Written at the end of the call, whether it returns or throws.
  class Line {
   public:
    Line(std::string_view call, const ObjectKey& key, std::uint64_t bytes)
        : call_(call), key_(key), bytes_(bytes), started_(std::chrono::steady_clock::now()) {}
    ~Line() {
      const std::chrono::duration<double, std::milli> took =
          std::chrono::steady_clock::now() - started_;
      log::debug("storage {} key={} bytes={} ms={:.1f}", call_, key_, bytes_, took.count());
    }
    Line(const Line&) = delete;
    Line& operator=(const Line&) = delete;

   private:
    const std::string_view call_;
    const ObjectKey& key_;
    const std::uint64_t bytes_;
    const std::chrono::steady_clock::time_point started_;
  };

  const std::unique_ptr<ObjectStore> store_;
};

class RateLimitStore : public ObjectStore {
 public:
  RateLimitStore(std::unique_ptr<ObjectStore> store, std::shared_ptr<RateLimits> limits)
      : store_(std::move(store)), limits_(std::move(limits)) {}

  PutResult put(const ObjectKey& key, ByteView bytes, PutMode mode, const Stop& stop) override {
    limits_->write.take(bytes.size(), stop);
    return store_->put(key, bytes, mode, stop);
  }
  bool get_into(const ObjectKey& key, std::uint64_t offset, MutableByteView into,
                const Stop& stop) override {
    limits_->read.take(into.size(), stop);
    return store_->get_into(key, offset, into, stop);
  }
  std::optional<ObjectInfo> stat(const ObjectKey& key, const Stop& stop) override {
    return store_->stat(key, stop);
  }
  void list(const ObjectKey& prefix, const std::function<void(const ObjectInfo&)>& visit,
            const Stop& stop) override {
    store_->list(prefix, visit, stop);
  }
  std::vector<std::string> list_directories(const ObjectKey& prefix, const Stop& stop) override {
    return store_->list_directories(prefix, stop);
  }
  void remove(const ObjectKey& key, const Stop& stop) override { store_->remove(key, stop); }
  std::string description() const override { return store_->description(); }

 private:
  const std::unique_ptr<ObjectStore> store_;
  // Shared by the stores of a driver, and by what opens them; the last of these frees it.
  const std::shared_ptr<RateLimits> limits_;
};

}  // namespace

std::unique_ptr<ObjectStore> with_retry(std::unique_ptr<ObjectStore> store,
                                        const RetryPolicy& policy) {
  return std::make_unique<RetryStore>(std::move(store), policy);
}

std::unique_ptr<ObjectStore> with_log(std::unique_ptr<ObjectStore> store) {
  return std::make_unique<LogStore>(std::move(store));
}

std::unique_ptr<ObjectStore> with_rate_limit(std::unique_ptr<ObjectStore> store,
                                             std::shared_ptr<RateLimits> limits) {
  return std::make_unique<RateLimitStore>(std::move(store), std::move(limits));
}

}  // namespace holdfast::storage
