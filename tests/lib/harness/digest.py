"""The content of a whole cluster, as values that can be compared: every row, every definition."""

SCHEMA_QUERIES = {
    "relations": """SELECT n.nspname, c.relname, c.relkind, c.relpersistence, pg_get_userbyid(c.relowner), c.relacl::text,
        array_to_string(c.reloptions, ','), obj_description(c.oid, 'pg_class')
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {user} ORDER BY 1, 2""",
    "columns": """SELECT n.nspname, c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
        pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated, col_description(c.oid, a.attnum)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE {user} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, 2, 3""",
    "indexes": """SELECT n.nspname, c.relname, pg_get_indexdef(c.oid), i.indisvalid
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {user} ORDER BY 1, 2""",
    "constraints": """SELECT n.nspname, conrelid::regclass::text, conname, pg_get_constraintdef(k.oid)
        FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace WHERE {user} ORDER BY 1, 2, 3""",
    "views": """SELECT n.nspname, c.relname, pg_get_viewdef(c.oid) FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('v', 'm') AND {user} ORDER BY 1, 2""",
    "functions": """SELECT n.nspname, p.proname, pg_get_functiondef(p.oid) FROM pg_proc p
        JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.prokind IN ('f', 'p') AND {user} ORDER BY 1, 2, 3""",
    "types": """SELECT n.nspname, t.typname, t.typtype, (SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder)
        FROM pg_enum WHERE enumtypid = t.oid) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        WHERE {user} AND t.typtype <> 'b' ORDER BY 1, 2""",
    "triggers": """SELECT tgrelid::regclass::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2""",
    "extensions": "SELECT extname, extversion FROM pg_extension ORDER BY 1",
    "schemas": "SELECT nspname, pg_get_userbyid(nspowner), nspacl::text FROM pg_namespace n WHERE {user} ORDER BY 1",
    "large objects": "SELECT loid, pageno, md5(data) FROM pg_largeobject ORDER BY 1, 2",
}
CLUSTER_QUERIES = {
    "databases": """SELECT datname, pg_encoding_to_char(encoding), datcollate, datctype, pg_get_userbyid(datdba), datacl::text,
        datallowconn, datconnlimit FROM pg_database ORDER BY 1""",
    "roles": """SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
        rolconnlimit, rolpassword, rolvaliduntil FROM pg_authid ORDER BY 1""",
    "memberships": "SELECT roleid::regrole::text, member::regrole::text, admin_option FROM pg_auth_members ORDER BY 1, 2",
    "settings": """SELECT coalesce(datname, ''), CASE WHEN setrole = 0 THEN '' ELSE setrole::regrole::text END, setconfig::text
        FROM pg_db_role_setting LEFT JOIN pg_database d ON d.oid = setdatabase ORDER BY 1, 2""",
    "tablespaces": "SELECT spcname, pg_get_userbyid(spcowner) FROM pg_tablespace ORDER BY 1",
}
USER_NAMESPACE = "n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'"


def quote(name):
    return '"' + name.replace('"', '""') + '"'


def digest(server, skip_unlogged=False, skip_sequences=False):
    """A dictionary from what to value. Row order does not matter; every column's text does.

    `skip_unlogged`: PostgreSQL empties unlogged tables in recovery, so they cannot be compared.
    `skip_sequences`: WAL logs values ahead, so replay is ahead of the page.
    """
    result = {}
    for name, query in CLUSTER_QUERIES.items():
        result[f"cluster {name}"] = server.sql(query).rows
    for database in server.databases():
        if database == "template0":
            continue
        with server.connect(database) as connection:
            for name, query in SCHEMA_QUERIES.items():
                result[f"{database} {name}"] = connection.query(query.format(user=USER_NAMESPACE)).rows
            tables = connection.query(f"""SELECT n.nspname, c.relname, c.relkind, c.relpersistence FROM pg_class c
                JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind IN ('r', 'm', 'S') AND c.relpersistence <> 't' AND {USER_NAMESPACE} ORDER BY 1, 2""").rows
            for schema, table, kind, persistence in tables:
                if persistence == "u" and skip_unlogged:
                    continue
                if kind == "S" and skip_sequences:
                    continue
                whole = f"{quote(schema)}.{quote(table)}"
                if kind == "S":
                    query = f"SELECT last_value, is_called FROM {whole}"
                else:
                    query = f"SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) FROM {whole} t"
                result[f"{database} {whole}"] = connection.query(query).rows
    return result


def difference(before, after):
    """What differs, for an assertion's message; empty when nothing does."""
    lines = []
    for key in sorted(before.keys() | after.keys()):
        one, two = before.get(key), after.get(key)
        if one != two:
            one_rows, two_rows = (set(map(str, rows or [])) for rows in (one, two))
            lines.append(f"{key}: before {sorted(one_rows - two_rows)[:5]}, after {sorted(two_rows - one_rows)[:5]}")
    return "\n".join(lines)


def assert_same(before, after):
    text = difference(before, after)
    assert not text, text
