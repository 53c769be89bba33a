#include "daemon/job_authorization.h"

#include "daemon/role_session.h"
#include "statements/backup_rights.h"
#include "statements/privileges.h"
#include "statements/restore_objects.h"
#include "statements/verify_statement.h"

namespace holdfast::daemon {
namespace {

void check_places(statements::Stores& stores, const restore::proto::RestoreJobSpec& spec,
                  RoleSession& session) {
  statements::check_storage_use(stores, spec.collection_uri(), session);
  if (!spec.incremental_uri().empty()) {
    statements::check_storage_use(stores, spec.incremental_uri(), session);
  }
}

}  // namespace

void authorize_backup(Instance& instance, statements::Stores& stores,
                      backup::proto::BackupJobSpec& spec, const Stop& stop) {
  // Jobs that an earlier version made do not say whose they are; their statements were checked.
  if (spec.local_administrator() || spec.user().empty()) return;
  RoleSession session(instance, {.role = spec.user(), .database = {}}, stop);
  statements::check_backup_rights(
      stores, [&] { return postgres::ConnectOptions{.conninfo = instance.conninfo()}; }, session,
      spec, stop);
}

void authorize_restore(Instance& instance, statements::Stores& stores,
                       restore::proto::RestoreJobSpec& spec, const Stop& stop) {
  restore::proto::ObjectRestoreSpec& objects = *spec.mutable_objects();
  if (objects.local_administrator()) return;
  RoleSession session(instance, {.role = objects.user(), .database = {}}, stop);
  statements::check_object_privileges(session, objects);
  check_places(stores, spec, session);
}

void authorize_verification(Instance& instance, statements::Stores& stores,
                            const restore::proto::RestoreJobSpec& spec, const Stop& stop) {
  if (spec.verify().local_administrator()) return;
  RoleSession session(instance, {.role = spec.verify().user(), .database = {}}, stop);
  statements::require_administrator(session, statements::kVerifyRight);
  check_places(stores, spec, session);
}

}  // namespace holdfast::daemon
