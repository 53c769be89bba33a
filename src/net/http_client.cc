#include "net/http_client.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>

#include "base/error.h"

namespace holdfast::net {

namespace {

struct CurlLibrary {
  CurlLibrary() {
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
      throw Error(sqlstate::kInternalError, "could not initialise the HTTP client library");
    }
  }
};

/// libcurl's global state is made once and left to the end of the process: no moment is known when
/// all its users are gone.
void initialise_curl() { static const CurlLibrary library; }

class HeaderList {
 public:
  ~HeaderList() { curl_slist_free_all(list_); }
  HeaderList() = default;
  HeaderList(const HeaderList&) = delete;
  HeaderList& operator=(const HeaderList&) = delete;

  void add(const std::string& line) {
    curl_slist* longer = curl_slist_append(list_, line.c_str());
    if (longer == nullptr) throw Error(sqlstate::kOutOfMemory, "out of memory");
    list_ = longer;
  }
  curl_slist* get() const { return list_; }

 private:
  curl_slist* list_ = nullptr;
};

/// One request on its way: what libcurl's callbacks work on.
class Exchange {
 public:
  Exchange(const HttpRequest& request, const Stop& stop) : request_(request), stop_(stop) {
    for (const ByteView part : request.body) body_bytes_ += part.size();
  }

  std::uint64_t body_bytes() const { return body_bytes_; }

  /// Bytes of the request body.
  std::size_t read(MutableByteView into) {
    std::size_t done = 0;
    while (done < into.size() && part_ < request_.body.size()) {
      const ByteView left = request_.body[part_].subspan(at_);
      const std::size_t length = std::min(left.size(), into.size() - done);
      if (length > 0) std::memcpy(into.data() + done, left.data(), length);
      done += length;
      at_ += length;
      if (at_ == request_.body[part_].size()) {
        ++part_;
        at_ = 0;
      }
    }
    return done;
  }

  void header(std::string_view line) {
    if (line.starts_with("HTTP/")) {
      // The headers before are those of a redirect or of "100 Continue".
      response_ = HttpResponse();
      const std::size_t space = line.find(' ');
      if (space != line.npos) response_.status = std::atoi(std::string(line.substr(space)).c_str());
      return;
    }
    const std::size_t colon = line.find(':');
    if (colon == line.npos) return;
    std::string name(line.substr(0, colon));
    std::transform(name.begin(), name.end(), name.begin(), [](char c) {
      return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    line.remove_prefix(colon + 1);
    const std::size_t first = line.find_first_not_of(" \t");
    const std::size_t last = line.find_last_not_of(" \t\r\n");
    response_.headers.emplace_back(std::move(name),
                                   first == line.npos || last == line.npos || last < first
                                       ? ""
                                       : std::string(line.substr(first, last - first + 1)));
  }

  /// False: more than there is room for.
  bool write(ByteView bytes) {
    if (request_.into && response_.success()) {
      const MutableByteView into = *request_.into;
      if (bytes.size() > into.size() - response_.body_bytes) {
        too_long_ = true;
        return false;
      }
      std::memcpy(into.data() + response_.body_bytes, bytes.data(), bytes.size());
    } else {
      if (bytes.size() > request_.body_limit - response_.body.size()) {
        too_long_ = true;
        return false;
      }
      response_.body.insert(response_.body.end(), bytes.begin(), bytes.end());
    }
    response_.body_bytes += bytes.size();
    return true;
  }

  bool stop_requested() const { return stop_.requested(); }
  bool too_long() const { return too_long_; }
  HttpResponse take_response() { return std::move(response_); }

 private:
  const HttpRequest& request_;
  const Stop& stop_;
  std::uint64_t body_bytes_ = 0;
  std::size_t part_ = 0;
  std::size_t at_ = 0;
  HttpResponse response_;
  bool too_long_ = false;
};

// No exception may cross libcurl, which is C. The only one that these can throw is that of a lack
// of memory, and then the transfer fails.
extern "C" {

std::size_t on_header(char* data, std::size_t size, std::size_t count, void* exchange) {
  try {
    static_cast<Exchange*>(exchange)->header({data, size * count});
    return size * count;
  } catch (const std::exception&) {
    return 0;
  }
}

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* exchange) {
  try {
    const ByteView bytes(reinterpret_cast<const std::byte*>(data), size * count);
    return static_cast<Exchange*>(exchange)->write(bytes) ? bytes.size() : 0;
  } catch (const std::exception&) {
    return 0;
  }
}

std::size_t on_read(char* into, std::size_t size, std::size_t count, void* exchange) {
  return static_cast<Exchange*>(exchange)->read({reinterpret_cast<std::byte*>(into), size * count});
}

// libcurl wants the beginning again when a kept connection ends without an answer. What was sent
// may have arrived, and then a second "put if absent" finds the first one's object: the caller must
// know of it.
int on_seek(void* /*exchange*/, curl_off_t /*offset*/, int /*origin*/) {
  return CURL_SEEKFUNC_FAIL;
}

// libcurl calls this at least once a second, also while nothing moves.
int on_progress(void* exchange, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<Exchange*>(exchange)->stop_requested() ? 1 : 0;
}

}  // extern "C"

/// Whether the same request may find a better day: not when it is wrong, or the server not who it
/// should be.
bool may_pass(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_FAIL_REWIND:
      return true;
    default:
      return false;
  }
}

Error failure(CURLcode code, const HttpRequest& request, std::string_view text) {
  Error error(sqlstate::kConnectionFailure,
              fmt::format("request to \"{}\" failed: {}", origin_of(request.url),
                          text.empty() ? std::string_view(curl_easy_strerror(code)) : text));
  if (may_pass(code)) error.retry(Retry::Safe);
  if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE) {
    error.hint(
        "Give the certificate of the authority that signed the server's with --storage-ca-file.");
  }
  return error;
}

}  // namespace

struct HttpClient::Handle {
  Handle() : curl(curl_easy_init()) {
    if (curl == nullptr) throw Error(sqlstate::kOutOfMemory, "could not make an HTTP client");
  }
  ~Handle() { curl_easy_cleanup(curl); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  template <typename Value>
  void set(CURLoption option, Value value) {
    const CURLcode code = curl_easy_setopt(curl, option, value);
    if (code != CURLE_OK) {
      throw Error(
          sqlstate::kInternalError,
          fmt::format("could not set an option of the HTTP client: {}", curl_easy_strerror(code)));
    }
  }

  CURL* curl;
  std::array<char, CURL_ERROR_SIZE> error_text{};
};

HttpClient::HttpClient(HttpClientOptions options) : options_(std::move(options)) {
  initialise_curl();
}

HttpClient::~HttpClient() = default;

std::unique_ptr<HttpClient::Handle> HttpClient::take() {
  {
    const MutexLock lock(mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<Handle> handle = std::move(idle_.back());
      idle_.pop_back();
      return handle;
    }
  }
  return std::make_unique<Handle>();
}

void HttpClient::give_back(std::unique_ptr<Handle> handle) {
  // Forgets the options, keeps the connection.
  curl_easy_reset(handle->curl);
  const MutexLock lock(mutex_);
  idle_.push_back(std::move(handle));
}

HttpResponse HttpClient::send(const HttpRequest& request, const Stop& stop) {
  stop.check();
  std::unique_ptr<Handle> handle = take();
  Exchange exchange(request, stop);

  handle->error_text.front() = '\0';
  handle->set(CURLOPT_ERRORBUFFER, handle->error_text.data());
  handle->set(CURLOPT_NOSIGNAL, 1L);
  handle->set(CURLOPT_URL, request.url.c_str());
  handle->set(CURLOPT_PATH_AS_IS, 1L);
  handle->set(CURLOPT_PROTOCOLS_STR, "http,https");
  handle->set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  handle->set(CURLOPT_USERAGENT, "holdfast");
  handle->set(CURLOPT_BUFFERSIZE, 256L << 10);
  handle->set(CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
  handle->set(
      CURLOPT_CONNECTTIMEOUT_MS,
      static_cast<long>(request.connect_timeout.value_or(options_.connect_timeout).count()));
  handle->set(CURLOPT_LOW_SPEED_LIMIT, 1L);
  handle->set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(options_.stall_timeout.count()));
  handle->set(CURLOPT_TCP_KEEPALIVE, 1L);
  if (!options_.ca_file.empty()) handle->set(CURLOPT_CAINFO, options_.ca_file.c_str());
  handle->set(CURLOPT_SSL_VERIFYPEER, options_.verify_tls ? 1L : 0L);
  handle->set(CURLOPT_SSL_VERIFYHOST, options_.verify_tls ? 2L : 0L);
  if (request.without_proxy) handle->set(CURLOPT_NOPROXY, "*");
  if (request.follow_redirects) {
    handle->set(CURLOPT_FOLLOWLOCATION, 1L);
    handle->set(CURLOPT_MAXREDIRS, 5L);
    handle->set(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
  }

  handle->set(CURLOPT_HEADERFUNCTION, &on_header);
  handle->set(CURLOPT_HEADERDATA, static_cast<void*>(&exchange));
  handle->set(CURLOPT_WRITEFUNCTION, &on_body);
  handle->set(CURLOPT_WRITEDATA, static_cast<void*>(&exchange));
  handle->set(CURLOPT_XFERINFOFUNCTION, &on_progress);
  handle->set(CURLOPT_XFERINFODATA, static_cast<void*>(&exchange));
  handle->set(CURLOPT_NOPROGRESS, 0L);

  switch (request.method) {
    case HttpMethod::Get:
      handle->set(CURLOPT_HTTPGET, 1L);
      break;
    case HttpMethod::Head:
      handle->set(CURLOPT_NOBODY, 1L);
      break;
    case HttpMethod::Delete:
      handle->set(CURLOPT_CUSTOMREQUEST, "DELETE");
      break;
    case HttpMethod::Post:
    case HttpMethod::Put:
      handle->set(CURLOPT_UPLOAD, 1L);
      handle->set(CURLOPT_CUSTOMREQUEST, to_string(request.method).data());
      handle->set(CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(exchange.body_bytes()));
      handle->set(CURLOPT_READFUNCTION, &on_read);
      handle->set(CURLOPT_READDATA, static_cast<void*>(&exchange));
      handle->set(CURLOPT_SEEKFUNCTION, &on_seek);
      // Without a body nothing would be rewound, and libcurl would repeat the request unseen.
      if (exchange.body_bytes() == 0) handle->set(CURLOPT_FRESH_CONNECT, 1L);
      break;
  }
  HeaderList headers;
  for (const auto& [name, value] : request.headers) {
    // A line break would begin a header, or a request, of the value's own.
    if (std::any_of(value.begin(), value.end(),
                    [](unsigned char c) { return c < ' ' && c != '\t'; })) {
      throw Error(
          sqlstate::kInvalidParameterValue,
          fmt::format("the value for the HTTP header \"{}\" has a control character", name));
    }
    // libcurl takes "Name:" as an order to leave the header out, and "Name;" as an empty one.
    headers.add(value.empty() ? name + ";" : fmt::format("{}: {}", name, value));
  }
  // Waiting for "100 Continue" costs a round trip for each object.
  headers.add("Expect:");
  handle->set(CURLOPT_HTTPHEADER, headers.get());

  const CURLcode code = curl_easy_perform(handle->curl);
  const std::string text = handle->error_text.data();
  // After a failure the connection's state is anybody's guess: the handle is closed with it.
  if (code == CURLE_OK) give_back(std::move(handle));
  if (code == CURLE_ABORTED_BY_CALLBACK) stop.check();
  if (exchange.too_long()) {
    throw Error(sqlstate::kIoError,
                fmt::format("\"{}\" sent more bytes than were asked for", origin_of(request.url)));
  }
  if (code != CURLE_OK) throw failure(code, request, text);
  return exchange.take_response();
}

}  // namespace holdfast::net
