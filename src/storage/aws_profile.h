#pragma once

#include <map>
#include <memory>
#include <string>

#include "storage/aws_credentials.h"

namespace holdfast::storage {

/// The sections of an AWS configuration file: name → setting → value. "[profile x]" is "x".
using AwsProfiles = std::map<std::string, std::map<std::string, std::string>>;
AwsProfiles parse_aws_profiles(std::string_view text);

/// The profile that AWS_PROFILE names ("default"), from the shared credentials file and the
/// configuration file, which the former goes before. Null when neither knows it, or when it names
/// no credentials. Throws kFeatureNotSupported for ways to credentials that start programs or
/// browsers.
std::unique_ptr<AwsCredentialSource> aws_profile_credentials(const CloudEnvironment& environment,
                                                             const std::string& region);

/// The region that the environment or the profile names; empty when neither does.
std::string aws_configured_region(const CloudEnvironment& environment);

}  // namespace holdfast::storage
