# Debian packages, in the sets that the commands need. docs/dependencies.md says what each is for.
# shellcheck shell=bash

PACKAGES_build=(g++ cmake ninja-build pkg-config libpg-query-dev libspdlog-dev libfmt-dev libcli11-dev
  libcpp-httplib-dev libhowardhinnant-date-dev libxxhash-dev libzstd-dev liblz4-dev libprotobuf-dev protobuf-compiler
  libsqlite3-dev libcurl4-openssl-dev libpq-dev libssl-dev nlohmann-json3-dev libpugixml-dev libgtest-dev libgmock-dev)
PACKAGES_demo=(postgresql-15)
PACKAGES_test=(postgresql-15 python3-pytest python3-pytest-xdist python3-psycopg clang-14 clang-format-14 clang-tidy-14
  libclang-rt-14-dev libbenchmark-dev nodejs npm python3-venv)
PACKAGES_package=(dpkg-dev)
PACKAGES_bench=(postgresql-15 python3-psycopg pgbackrest pgbouncer zstd libbenchmark-dev)

# Node.js often comes from elsewhere than Debian; the command is what matters.
package_present() {
  case $1 in
    nodejs) command -v node >/dev/null && return ;;
    npm) command -v npm >/dev/null && return ;;
  esac
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

packages_sudo() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

packages_install() {
  packages_sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "$@"
}

# packages_need <set…>: installs what is missing of the sets; asks for a password only then.
packages_need() {
  local set_name list package missing=()
  for set_name in "$@"; do
    declare -n list=PACKAGES_$set_name
    for package in "${list[@]}"; do
      package_present "$package" || missing+=("$package")
    done
    unset -n list
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)

  command -v apt-get >/dev/null || die "these Debian 12 packages are missing: ${missing[*]}"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "run as root or install sudo; missing packages: ${missing[*]}"
    sudo -v || die "these packages have to be installed: ${missing[*]}"
  fi

  # The checkout brings servers of its own; a default cluster on port 5432 is not ours to create.
  # (createcluster.d is read by pg_createcluster; see README.Debian of postgresql-common.)
  local no_main=/etc/postgresql-common/createcluster.d/holdfast.conf made_no_main=
  if [[ " ${missing[*]} " == *" postgresql-15 "* ]]; then
    packages_sudo mkdir -p "${no_main%/*}"
    echo "create_main_cluster = false" | packages_sudo tee "$no_main" >/dev/null
    made_no_main=yes
  fi
  local failed=
  if ! apt-cache show "${missing[@]}" >/dev/null 2>&1; then
    step apt-update "Reading the package lists" packages_sudo apt-get update || failed=yes
  fi
  local text="Installing ${#missing[@]} Debian packages"
  [ ${#missing[@]} -gt 4 ] || text="Installing ${missing[*]}"
  if [ -z "$failed" ] && ! step apt-install "$text" packages_install "${missing[@]}"; then
    # Lists that are days old name files that the mirror no longer has.
    step apt-update "Reading the package lists again" packages_sudo apt-get update &&
      step apt-install "$text" packages_install "${missing[@]}" || failed=yes
  fi
  [ -z "$made_no_main" ] || packages_sudo rm -f "$no_main"
  [ -z "$failed" ] || die "the packages could not be installed: ${missing[*]}"
}
