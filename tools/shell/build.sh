# Building through the CMake presets.
# shellcheck shell=bash

build_configure() {
  local preset=$1 launcher=()
  # A second build of the same sources costs nothing where ccache is at hand.
  if command -v ccache >/dev/null; then launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
  cmake --preset "$preset" "${launcher[@]}"
}

# build_preset <preset> [target…]: everything without a target.
build_preset() {
  local preset=$1
  shift
  step "configure-$preset" "Configuring $preset" build_configure "$preset" || return 1
  step "build-$preset" "Building $preset" cmake --build "build/$preset" ${1:+--target "$@"} || return 1
}
