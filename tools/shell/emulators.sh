# Servers that speak the protocols of cloud storage, pinned, into build/emulators: MinIO and fake-gcs-server (and Go where it is
# missing) from the Go module proxy, Azurite from the npm registry, moto from PyPI.
# shellcheck shell=bash
source tools/shell/npm.sh

EMULATORS=build/emulators
EMULATORS_MINIO=v0.0.0-20260212201848-7aac2a2c5b7c
EMULATORS_FAKE_GCS=v1.56.1
EMULATORS_AZURITE=3.35.0 # newer ones need Node.js 22
EMULATORS_MOTO=5.2.5
# Debian 12's Go is too old for these. The module proxy serves whole toolchains, for Go's own use.
EMULATORS_GO=1.26.0
EMULATORS_GO_AMD64_SHA256=38461905b98c59173672814302e222ab43b652274bc0c95817b08b71ab66b705

# A mark of the version says that a directory is whole.
emulators_present() { # name, version
  [ "$(cat "$EMULATORS/$1/.complete" 2>/dev/null)" = "$2" ]
}

emulators_finish() { # name, version
  chmod -R a+rX "$EMULATORS/$1"
  echo "$2" >"$EMULATORS/$1/.complete"
}

emulators_go_is_new() {
  [[ $(go env GOVERSION 2>/dev/null) =~ ^go1\.([0-9]+) ]] && [ "${BASH_REMATCH[1]}" -ge 26 ]
}

emulators_go_toolchain() {
  [ "$(uname -m)" = x86_64 ] || die "the tests of cloud storage need Go 1.26 or newer in PATH"
  rm -rf "$EMULATORS/go"
  mkdir -p "$EMULATORS/go"
  /usr/bin/python3 tools/fetch_zip.py "https://proxy.golang.org/golang.org/toolchain/@v/v0.0.1-go$EMULATORS_GO.linux-amd64.zip" \
    "$EMULATORS_GO_AMD64_SHA256" "$EMULATORS/go" || return 1
  emulators_finish go "$EMULATORS_GO"
}

# Puts a Go into PATH that is new enough, where there is none.
emulators_need_go() {
  ! emulators_go_is_new || return 0
  emulators_present go "$EMULATORS_GO" ||
    step emulators-go "Fetching Go $EMULATORS_GO" emulators_go_toolchain || return 1
  PATH=$PWD/$EMULATORS/go/golang.org/toolchain@v0.0.1-go$EMULATORS_GO.linux-amd64/bin:$PATH
}

emulators_go() { # name, module@version, version
  mkdir -p "$EMULATORS/$1"
  GOBIN=$PWD/$EMULATORS/$1 CGO_ENABLED=0 GOFLAGS=-trimpath go install -ldflags='-s -w' "$2" || return 1
  emulators_finish "$1" "$3"
}

emulators_azurite() {
  npm_package "$EMULATORS/azurite" "azurite@$EMULATORS_AZURITE" || return 1
  emulators_finish azurite "$EMULATORS_AZURITE"
}

emulators_moto() {
  rm -rf "$EMULATORS/moto"
  /usr/bin/python3 -m venv "$EMULATORS/moto" || return 1
  "$EMULATORS/moto/bin/python" -m pip install --disable-pip-version-check --quiet "moto[server]==$EMULATORS_MOTO" || return 1
  emulators_finish moto "$EMULATORS_MOTO"
}

# What is missing; a registry that cannot be reached fails, nothing is left out for it.
emulators_need() {
  if ! emulators_present minio "$EMULATORS_MINIO" || ! emulators_present fake-gcs "$EMULATORS_FAKE_GCS"; then
    emulators_need_go || return 1
  fi
  emulators_present minio "$EMULATORS_MINIO" ||
    step emulators-minio "Building MinIO (minutes, once)" \
      emulators_go minio "github.com/minio/minio@$EMULATORS_MINIO" "$EMULATORS_MINIO" || return 1
  emulators_present fake-gcs "$EMULATORS_FAKE_GCS" ||
    step emulators-fake-gcs "Building fake-gcs-server" \
      emulators_go fake-gcs "github.com/fsouza/fake-gcs-server@$EMULATORS_FAKE_GCS" "$EMULATORS_FAKE_GCS" || return 1
  emulators_present azurite "$EMULATORS_AZURITE" ||
    step emulators-azurite "Fetching Azurite $EMULATORS_AZURITE" emulators_azurite || return 1
  emulators_present moto "$EMULATORS_MOTO" ||
    step emulators-moto "Fetching moto $EMULATORS_MOTO" emulators_moto || return 1
}
