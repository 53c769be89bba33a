#pragma once

#include "base/clock.h"
#include "state/external_connections.h"
#include "statements/dispatcher.h"
#include "statements/stores.h"

namespace holdfast::statements {

/// What the statements about external connections work with. All outlive the sessions.
struct ConnectionServices {
  state::ExternalConnections* connections = nullptr;
  Stores* stores = nullptr;
  const Clock* clock = &Clock::system();
  std::string node_id;
  std::string locality;
};

/// Adds CREATE, ALTER, DROP, SHOW, SHOW CREATE, CHECK, and GRANT and REVOKE ON EXTERNAL CONNECTION.
void add_external_connection_statements(Dispatcher& dispatcher, const ConnectionServices& services);

}  // namespace holdfast::statements
