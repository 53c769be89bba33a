# ./run test: every part, its time, and the sum as the last line.
# shellcheck shell=bash
source tools/shell/emulators.sh

TEST_PARTS=(layers format unit tsan fuzz tidy statements cluster versions frontdoor faults objects cloud schedules docs demo)
# Modules whose code runs on several threads at once.
TSAN_MODULES=(base jobs schedule net pgwire storage backup restore)
# With one seed a failure comes again; other seeds and more time are for longer runs by hand.
FUZZ_SECONDS=${FUZZ_SECONDS:-20}
FUZZ_SEED=${FUZZ_SEED:-1}
JOBS=$(nproc)

# Each part_* fills these; a part that could not run at all is one failure.
part_passed=0 part_failed=0

# What failed is said once more at the very end: where a run is recorded, often only the end of its output is kept.
FAILED=$LOGS/failed

# say_failed <name> <log>: lines that begin with "failed:", with what the log tells of it.
say_failed() { /usr/bin/python3 tools/failed.py log "$1" "$2" 2>&1 | tee -a "$FAILED"; }

count_one() { # command…
  if step "test-$part" "  $part" "$@"; then
    part_passed=1
  else
    part_failed=1
    say_failed "$part" "$STEP_LOG"
  fi
}

# count_junit <file> <status>: adds up what ctest or pytest wrote before it ended with this status. A skipped test counts as failed: nothing here may be skipped.
count_junit() {
  local counts
  if [ -s "$1" ] && counts=$(/usr/bin/python3 tools/failed.py junit "$part" "$1" 2>"$FAILED.part"); then
    read -r part_passed part_failed <<<"$counts"
    tee -a "$FAILED" <"$FAILED.part"
    if [ "$2" != 0 ] && [ "$part_failed" = 0 ]; then
      part_failed=1
      say_failed "$part: failed without a failed test" "$LOGS/test-$part.log"
    fi
  else
    part_failed=$((part_failed + 1))
    say_failed "$part: no results" "$STEP_LOG"
  fi
}

need() { # build step…: a failure of it fails the part
  "$@" || {
    part_failed=1
    say_failed "$part: ${STEP_LOG##*/}" "$STEP_LOG"
    return 1
  }
}

run_ctest() { # preset, further ctest arguments
  local preset=$1
  shift
  rm -f "$LOGS/$part.xml"
  local status=0
  step "test-$part" "  running" ctest --test-dir "build/$preset" -j "$JOBS" --output-on-failure \
    --output-junit "$LOGS/$part.xml" "$@" || status=1
  count_junit "$LOGS/$part.xml" "$status"
}

# Servers mostly wait (for each other, for the disk), so that one test more than there are cores runs at a time.
run_pytest() { # arguments
  local status=0
  rm -f "$LOGS/$part.xml"
  step "test-$part" "  running" /usr/bin/python3 -m pytest -p no:cacheprovider -q -ra --tb=short \
    -n $((JOBS + 1)) --junitxml="$LOGS/$part.xml" "$@" || status=1
  count_junit "$LOGS/$part.xml" "$status"
}

check_structure() { /usr/bin/python3 tools/check_layers.py && /usr/bin/python3 tools/check_unnamed.py && /usr/bin/python3 tools/check_includes.py; }
part_layers() { count_one check_structure; }

check_format() { sources | xargs -0 clang-format-14 --dry-run -Werror; }
part_format() { count_one check_format; }

# The unit tests run once, where they see the most: behind AddressSanitizer and UndefinedBehaviorSanitizer.
part_unit() {
  need build_preset asan checks || return 0
  ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 run_ctest asan
}

# Address space randomisation of new kernels is wider than what GCC 12's ThreadSanitizer expects.
part_tsan() {
  local module targets=()
  for module in "${TSAN_MODULES[@]}"; do
    if compgen -G "src/$module/*_test.cc" >/dev/null; then targets+=("${module}_test"); fi
  done
  need step configure-tsan "Configuring tsan" build_configure tsan || return 0
  need step build-tsan "Building tsan" setarch -R cmake --build build/tsan --target "${targets[@]}" || return 0
  TSAN_OPTIONS="suppressions=$PWD/tools/tsan.supp halt_on_error=1" \
    run_in_setarch run_ctest tsan -R "^($(IFS='|' && echo "${TSAN_MODULES[*]}"))\\."
}

# The personality is inherited, so a shell that has it runs everything without randomisation.
run_in_setarch() {
  local output
  export -f step run_ctest count_junit say_failed
  export part LOGS FAILED JOBS RED GREEN DIM PLAIN
  output=$LOGS/$part.counts
  rm -f "$output"
  setarch -R bash -c 'part_passed=0 part_failed=0; "$@"; echo "$part_passed $part_failed" >"'"$output"'"' _ "$@" || true
  if [ -s "$output" ]; then
    read -r part_passed part_failed <"$output"
  else
    part_failed=1
    say_failed "$part: no results" "$LOGS/test-$part.log"
  fi
}

# Where the kept seeds of a target are: src/<module>/fuzz_seeds, or <name> in it for the target <…name…>_fuzz.
fuzz_seeds() { # target
  local source directory version
  source=$(find src -name "$1.cc" -printf '%h\n' -quit)
  if [ -n "$(find "$source/fuzz_seeds" -maxdepth 1 -type f -print -quit 2>/dev/null)" ]; then echo "$source/fuzz_seeds"; fi
  for directory in "$source"/fuzz_seeds/*/; do
    if [ -d "$directory" ] && [[ $1 == *"$(basename "$directory")"* ]]; then echo "$directory"; fi
  done
  if [[ $1 =~ ^wal_(reader|filter|condenser)_fuzz$ ]]; then
    # Their seeds are real WAL behind a byte that chooses the version.
    mkdir -p build/fuzz/seeds/wal
    for version in 13 14 15 16 17 18; do
      { printf "\\x$(printf '%02x' $((version - 13)))" && cat "$source/testdata/wal_$version.bin"; } >build/fuzz/seeds/wal/$version
    done
    echo build/fuzz/seeds/wal
  fi
}

fuzz_one() { # target
  local corpus=build/fuzz/corpus/$1 seeds
  mkdir -p "$corpus" build/fuzz/findings
  mapfile -t seeds < <(fuzz_seeds "$1")
  [ ${#seeds[@]} -gt 0 ] || { echo "no seeds for $1" && return 1; }
  "build/asan/$1" -seed="$FUZZ_SEED" -max_total_time="$FUZZ_SECONDS" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/findings/$1-" "$corpus" "${seeds[@]}"
}

run_fuzz() { # target…
  local target running=0 failed=0
  for target in "$@"; do
    if [ "$running" -ge "$JOBS" ]; then wait -n || failed=1; fi
    (fuzz_one "$target" >"$LOGS/fuzz-$target.log" 2>&1 && echo passed >"build/fuzz/outcome/$target") &
    running=$((running + 1))
  done
  while [ -n "$(jobs -r)" ]; do wait -n || failed=1; done
  return "$failed"
}

part_fuzz() {
  need build_preset asan checks || return 0
  local targets target
  mapfile -t targets < <(find src -name '*_fuzz.cc' -printf '%f\n' | sed 's/\.cc$//' | sort)
  # As many at once as there are cores; each says how it went in a file of its own.
  rm -f build/fuzz/outcome/*
  mkdir -p build/fuzz/outcome
  step test-fuzz "  running ${#targets[@]} targets" run_fuzz "${targets[@]}" || true
  for target in "${targets[@]}"; do
    if [ "$(cat "build/fuzz/outcome/$target" 2>/dev/null)" = passed ]; then
      part_passed=$((part_passed + 1))
    else
      part_failed=$((part_failed + 1))
      say_failed "fuzz: $target" "$LOGS/fuzz-$target.log"
    fi
  done
}

part_tidy() {
  need build_preset asan checks || return 0
  local status=0
  rm -f "$LOGS/$part.xml"
  step test-tidy "  running clang-tidy" /usr/bin/python3 tools/tidy.py --junit "$LOGS/$part.xml" --jobs "$JOBS" || status=1
  count_junit "$LOGS/$part.xml" "$status"
}

# Without the unit tests, which only the sanitizers' builds need.
build_programs() { build_preset release programs; }

part_statements() { need build_programs && run_pytest tests/statements; }
part_cluster() { need build_programs && run_pytest tests/cluster -m "not versions"; }
part_versions() { need build_programs && need npm_need_postgres && run_pytest tests/cluster -m versions; }
part_frontdoor() { need build_programs && need npm_need_node_postgres && run_pytest tests/frontdoor; }
part_objects() { need build_programs && need npm_need_postgres && run_pytest tests/objects; }
part_faults() { need build_programs && run_pytest tests/faults; }
part_cloud() { need build_programs && need emulators_need && run_pytest tests/cloud; }
part_schedules() { need build_programs && run_pytest tests/schedules; }
part_docs() { need build_programs && run_pytest tests/docs; }

part_demo() {
  need build_preset release holdfast || return 0
  count_one bash tools/demo.sh
}

test_main() {
  local part total_passed=0 total_failed=0 began all_began=$SECONDS summary=()
  local parts=("$@")
  [ ${#parts[@]} -gt 0 ] || parts=("${TEST_PARTS[@]}")
  for part in "${parts[@]}"; do
    [[ " ${TEST_PARTS[*]} " == *" $part "* ]] || die "no such part: $part (there are: ${TEST_PARTS[*]})"
  done
  packages_need build demo test
  : >"$FAILED"

  for part in "${parts[@]}"; do
    echo "${BOLD}$part${PLAIN}"
    part_passed=0 part_failed=0 began=$SECONDS
    "part_$part" || true
    summary+=("$(printf '%-11s %6d passed %5d failed %6d s' "$part" "$part_passed" "$part_failed" $((SECONDS - began)))")
    total_passed=$((total_passed + part_passed)) total_failed=$((total_failed + part_failed))
  done
  echo
  printf '%s\n' "${summary[@]}"
  printf '%-40s %6d s\n\n' "all" $((SECONDS - all_began))
  head -n 60 "$FAILED"
  [ "$(wc -l <"$FAILED")" -le 60 ] || echo "failed: more in $FAILED"
  echo "$total_passed passed, $total_failed failed"
  [ "$total_failed" -eq 0 ]
}
