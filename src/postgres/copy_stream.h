#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/stop.h"
#include "postgres/connection.h"

namespace holdfast::postgres {

/// Called for each piece of COPY data that went by, with its size.
using CopyProgress = std::function<void(std::uint64_t bytes)>;

/// Runs a COPY … TO STDOUT on one connection and feeds what it gives to a COPY … FROM STDIN on
/// another; the number of rows that arrived. Both must be the same format. When either fails, both
/// connections are closed and the error is thrown: a COPY FROM that lost its source never commits.
std::uint64_t copy_between(Connection& from, const std::string& copy_out, Connection& to,
                           const std::string& copy_in, const CopyProgress& progress,
                           const Stop& stop);

/// Runs a COPY … TO STDOUT and drops what it gives; the number of rows.
std::uint64_t copy_and_discard(Connection& from, const std::string& copy_out,
                               const CopyProgress& progress, const Stop& stop);

}  // namespace holdfast::postgres
