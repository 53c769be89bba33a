#include "console/http_server.h"

#include <fmt/format.h>
#include <httplib.h>

#include <exception>
#include <thread>

#include "base/error.h"
#include "base/log.h"

namespace holdfast::console {

struct HttpServer::State {
  httplib::Server server;
  HttpPages pages;
  int port = 0;
  std::thread thread;
};

HttpServer::HttpServer(const std::string& host, std::uint16_t port, HttpPages pages)
    : state_(std::make_unique<State>()) {
  state_->pages = std::move(pages);
  httplib::Server& server = state_->server;
  // Two threads are plenty for a scrape and a health check, and a slow client can hold no more than
  // these.
  server.new_task_queue = [] { return new httplib::ThreadPool(2); };
  server.set_payload_max_length(0);
  // The library's default is SO_REUSEPORT, with which two daemons would share a port unnoticed.
  server.set_socket_options([](socket_t socket) {
    int on = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  });
  server.Get("/health", [this](const httplib::Request&, httplib::Response& response) {
    HttpPages::Health health = state_->pages.health();
    response.status = health.healthy ? 200 : 503;
    response.set_content(health.json, "application/json");
  });
  server.Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
    response.set_content(state_->pages.metrics(), "text/plain; version=0.0.4; charset=utf-8");
  });
  server.set_exception_handler(
      [](const httplib::Request& request, httplib::Response& response, std::exception_ptr error) {
        try {
          std::rethrow_exception(error);
        } catch (const std::exception& e) {
          log::error("could not answer HTTP request for {}: {}", request.path, e.what());
        }
        response.status = 500;
      });

  if (port == 0) {
    state_->port = server.bind_to_any_port(host);
  } else {
    state_->port = server.bind_to_port(host, port) ? port : -1;
  }
  if (state_->port <= 0) {
    throw Error(sqlstate::kConfigFileError,
                fmt::format("could not listen for HTTP on {}:{}", host, port))
        .hint(
            "Another program may use the port; choose another address with --http, or switch it "
            "off with --http none.");
  }
  state_->thread = std::thread([this] { state_->server.listen_after_bind(); });
  // stop() of a server that does not listen yet would be lost.
  while (!server.is_running()) std::this_thread::yield();
}

HttpServer::~HttpServer() {
  state_->server.stop();
  state_->thread.join();
}

std::uint16_t HttpServer::port() const { return static_cast<std::uint16_t>(state_->port); }

}  // namespace holdfast::console
