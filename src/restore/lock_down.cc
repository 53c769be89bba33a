#include "restore/lock_down.h"

#include <fmt/core.h>

#include <string>
#include <string_view>

namespace holdfast::restore {
namespace {

using postgres::Connection;

/// Functions of PostgreSQL's own that nobody but superusers may execute, by name or by the name in
/// C: those that initdb keeps for superusers (all of versions 13 to 18; whole families, so that
/// those of later versions are among them), whatever a backup says about that, and those that run a
/// query, or read a table, named by a text: what that reaches is seen by nobody before it runs.
/// Sources: PostgreSQL src/backend/catalog/system_functions.sql (REVOKE), utils/adt/xml.c,
/// utils/adt/tsvector_op.c (ts_stat_sql), utils/adt/tsquery_rewrite.c (tsquery_rewrite_query).
constexpr std::string_view kDenied =
    "^(be_)?lo_(import|export)|^pg_(read|ls|hba|ident|replication_origin|backup|wal_replay|log)_"
    "|^pg_(start_backup|stop_backup|stat_file|stat_reset|stat_have_stats|config|promote"
    "|create_restore_point|current_logfile|reload_conf|rotate_logfile|switch_wal)"
    "|^pg_show_(all_file_settings|replication_origin_status)|^show_all_file_settings"
    "|^pg_get_(aios|backend_memory_contexts|shmem_allocations)"
    "|^(query|table|cursor|schema|database)_to_xml|^ts_stat|^tsquery_rewrite_query";

/// What anybody may execute from now on: functions of PostgreSQL's own as initdb left them, and
/// those that superusers made as part of an extension, in C, without side effects. Only superusers
/// can make functions in C, but anybody can add one of his to an extension that he owns.
/// Source: PostgreSQL src/include/catalog/pg_init_privs.h (what initdb and extensions granted).
constexpr std::string_view kFunctions =
    "UPDATE pg_catalog.pg_proc p SET proacl = f.acl FROM ("
    " SELECT p.oid, CASE WHEN NOT p.prosecdef AND p.proname !~ '{0}' AND p.prosrc !~ '{0}' "
    "  AND (p.oid < 16384 "
    "   OR (l.lanname IN ('c', 'internal') AND l.oid < 16384 AND p.provolatile = 'i' "
    "    AND r.rolsuper AND d.objid IS NOT NULL)) "
    "  THEN i.initprivs ELSE ARRAY[pg_catalog.makeaclitem(p.proowner, p.proowner, 'EXECUTE', "
    "false)] END AS acl "
    " FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang "
    " JOIN pg_catalog.pg_roles r ON r.oid = p.proowner "
    " LEFT JOIN pg_catalog.pg_depend d ON d.deptype = 'e' AND d.objid = p.oid "
    "  AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass "
    " LEFT JOIN pg_catalog.pg_init_privs i ON i.objoid = p.oid AND i.objsubid = 0 "
    "  AND i.classoid = 'pg_catalog.pg_proc'::pg_catalog.regclass) f "
    "WHERE f.oid = p.oid AND p.proacl IS DISTINCT FROM f.acl";

/// Whoever was given more of the catalogs than initdb gives does not matter to the filter's role,
/// but what everybody was given would.
constexpr std::string_view kCatalogs =
    "UPDATE pg_catalog.pg_class c SET relacl = f.acl FROM ("
    " SELECT c.oid, i.initprivs AS acl FROM pg_catalog.pg_class c "
    " LEFT JOIN pg_catalog.pg_init_privs i ON i.objoid = c.oid AND i.objsubid = 0 "
    "  AND i.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass WHERE c.oid < 16384) f "
    "WHERE f.oid = c.oid AND c.relacl IS DISTINCT FROM f.acl";
constexpr std::string_view kCatalogColumns =
    "UPDATE pg_catalog.pg_attribute SET attacl = NULL WHERE attrelid < 16384 AND attacl IS NOT "
    "NULL";

/// A function in another language than these is run by the language's handler: from now on by one
/// that only says that it cannot. There must be one: what is known of a range type has its
/// functions made ready, called or not.
/// Sources: PostgreSQL src/backend/utils/fmgr/fmgr.c (fmgr_info_other_lang),
/// utils/adt/pseudotypes.c (PSEUDOTYPE_DUMMY_INPUT_FUNC), utils/cache/typcache.c
/// (load_rangetype_info).
constexpr std::string_view kLanguages =
    "UPDATE pg_catalog.pg_language SET laninline = 0, "
    "lanplcallfoid = 'pg_catalog.language_handler_in(cstring)'::pg_catalog.regprocedure "
    "WHERE lanname NOT IN ('internal', 'c', 'sql') OR oid >= 16384";

/// Those in SQL need no handler, so they lose what they would do.
constexpr std::string_view kBodies =
    "UPDATE pg_catalog.pg_proc p SET prosrc = ''{} FROM pg_catalog.pg_language l "
    "WHERE l.oid = p.prolang AND l.lanname = 'sql' AND l.oid < 16384 AND p.oid >= 16384";

/// Whoever may read a foreign table: file_fdw would run a program.
/// Source: PostgreSQL src/backend/foreign/foreign.c (GetFdwRoutineByServerId).
constexpr std::string_view kForeign =
    "UPDATE pg_catalog.pg_foreign_data_wrapper SET fdwhandler = 0 WHERE fdwhandler <> 0";

/// Sessions of the role begin with the workshop's own settings and libraries only.
constexpr std::string_view kSettings = "DELETE FROM pg_catalog.pg_db_role_setting";

/// Source: PostgreSQL src/backend/utils/adt/rangetypes_selfuncs.c (get_distance).
constexpr std::string_view kRangeEstimates =
    "UPDATE pg_catalog.pg_range g SET rngsubdiff = 0 FROM pg_catalog.pg_proc p "
    "JOIN pg_catalog.pg_language l ON l.oid = p.prolang WHERE p.oid = g.rngsubdiff "
    "AND NOT (l.lanname IN ('c', 'internal') AND l.oid < 16384)";

}  // namespace

void lock_down(Connection& superuser, const Stop& stop) {
  superuser.simple_query(fmt::format(fmt::runtime(kFunctions), kDenied), stop);
  superuser.simple_query(fmt::format(fmt::runtime(kBodies),
                                     superuser.server_major() >= 14 ? ", prosqlbody = NULL" : ""),
                         stop);
  for (const auto change : {kCatalogs, kCatalogColumns, kLanguages, kForeign, kSettings}) {
    superuser.simple_query(std::string(change), stop);
  }
}

void forget_range_estimates(Connection& superuser, const Stop& stop) {
  superuser.simple_query(std::string(kRangeEstimates), stop);
}

}  // namespace holdfast::restore
