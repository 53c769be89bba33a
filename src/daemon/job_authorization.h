#pragma once

#include "backup_job.pb.h"
#include "base/stop.h"
#include "daemon/instance.h"
#include "restore_job.pb.h"
#include "statements/stores.h"

namespace holdfast::daemon {

/// A job may start long after its statement: these look at the rights that its user has now, as the
/// statement did. They throw kInsufficientPrivilege, or kUndefinedObject where there is no such
/// role any more, and write what follows from the rights into the specification. A local
/// administrator's jobs need no role.
void authorize_backup(Instance& instance, statements::Stores& stores,
                      backup::proto::BackupJobSpec& spec, const Stop& stop);
void authorize_restore(Instance& instance, statements::Stores& stores,
                       restore::proto::RestoreJobSpec& spec, const Stop& stop);
void authorize_verification(Instance& instance, statements::Stores& stores,
                            const restore::proto::RestoreJobSpec& spec, const Stop& stop);

}  // namespace holdfast::daemon
