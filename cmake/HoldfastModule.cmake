# holdfast_module(<name> USES <modules it may include> LINK <libraries> PROTO <.proto files>)
#
# One static library for each module of src/, made of every .cc below it but
#   *_test.cc   linked into <name>_test (GoogleTest), and known to ctest,
#   *_fuzz.cc   one libFuzzer target each (HOLDFAST_FUZZ),
#   *_bench.cc  linked into <name>_bench (Google Benchmark, HOLDFAST_BENCH).
# USES is the module's row of the layer table (docs/architecture.md); the `layers` test compares the three.
#
# How fast that goes, beside what comes out, is three options (CMakePresets.json):
#   HOLDFAST_UNITY     so many files of a module are compiled as one. A name in an unnamed namespace is therefore used once in a
#                      module's sources, and once in its unit tests.
#   HOLDFAST_PCH       behind a precompiled header of what most files include.
#   HOLDFAST_OPTIMISE  these modules and targets; the others, and with them the unit tests, without (-O0).
# The first two hide a missing #include, which the `layers` test looks for.
function(holdfast_precompile target)
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/pch/empty.cc CONTENT "")
  add_library(${target} STATIC ${CMAKE_BINARY_DIR}/pch/empty.cc)
  target_link_libraries(${target} PRIVATE fmt::fmt spdlog::spdlog Threads::Threads)
  # Of protobuf: what generated headers include.
  target_precompile_headers(${target} PRIVATE
    <google/protobuf/generated_message_reflection.h> <google/protobuf/message.h> <google/protobuf/repeated_field.h>
    <google/protobuf/unknown_field_set.h> <fmt/format.h> <algorithm> <chrono> <condition_variable> <filesystem> <functional> <fstream>
    <map> <memory> <optional> <set> <span> <string> <string_view> <thread> <utility> <vector> ${ARGN})
endfunction()

set(HOLDFAST_UNOPTIMISED "")
if(NOT HOLDFAST_OPTIMISE STREQUAL "all")
  set(HOLDFAST_UNOPTIMISED -O0)
endif()
if(HOLDFAST_PCH)
  holdfast_precompile(holdfast_pch)
  if(HOLDFAST_TESTS)
    # One of its own: whether the optimiser runs is a part of a precompiled header.
    holdfast_precompile(holdfast_unoptimised_pch <gmock/gmock.h> <gtest/gtest.h>)
    target_link_libraries(holdfast_unoptimised_pch PRIVATE GTest::gmock)
    target_compile_options(holdfast_unoptimised_pch PRIVATE ${HOLDFAST_UNOPTIMISED})
  endif()
endif()

# holdfast_compiled(<target> [<module>]): as the options say for the module; without one, for unit tests and what they share.
function(holdfast_compiled target)
  if(HOLDFAST_OPTIMISE STREQUAL "all" OR "${ARGV1}" IN_LIST HOLDFAST_OPTIMISE OR "${target}" IN_LIST HOLDFAST_OPTIMISE)
    set(pch holdfast_pch)
  else()
    set(pch holdfast_unoptimised_pch)
    target_compile_options(${target} PRIVATE ${HOLDFAST_UNOPTIMISED})
  endif()
  if(HOLDFAST_PCH)
    target_precompile_headers(${target} REUSE_FROM ${pch})
  endif()
  if(HOLDFAST_UNITY)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE ${HOLDFAST_UNITY})
  endif()
endfunction()

function(holdfast_module name)
  cmake_parse_arguments(ARG "" "" "USES;LINK;PROTO;TEST_LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  set(tests ${sources})
  set(fuzzers ${sources})
  set(benches ${sources})
  list(FILTER sources EXCLUDE REGEX "_(test|fuzz|bench)\\.cc$")
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER fuzzers INCLUDE REGEX "_fuzz\\.cc$")
  list(FILTER benches INCLUDE REGEX "_bench\\.cc$")
  list(TRANSFORM ARG_USES PREPEND holdfast_ OUTPUT_VARIABLE uses)

  set(target holdfast_${name})
  if(sources OR ARG_PROTO)
    add_library(${target} STATIC ${sources})
    target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR}/src)
    target_link_libraries(${target} PUBLIC ${uses} ${ARG_LINK})
    holdfast_compiled(${target} ${name})
    if(ARG_PROTO)
      # The generated code is not ours to warn about.
      protobuf_generate_cpp(proto_sources proto_headers ${ARG_PROTO})
      set_source_files_properties(${proto_sources} PROPERTIES COMPILE_OPTIONS -w SKIP_PRECOMPILE_HEADERS ON
                                  SKIP_UNITY_BUILD_INCLUSION ON)
      target_sources(${target} PRIVATE ${proto_sources} ${proto_headers})
      target_include_directories(${target} SYSTEM PUBLIC ${CMAKE_CURRENT_BINARY_DIR})
      target_link_libraries(${target} PUBLIC protobuf::libprotobuf)
    endif()
  else()
    add_library(${target} INTERFACE)
    target_include_directories(${target} INTERFACE ${CMAKE_SOURCE_DIR}/src)
    target_link_libraries(${target} INTERFACE ${uses} ${ARG_LINK})
  endif()

  if(HOLDFAST_TESTS AND tests)
    add_executable(${name}_test ${tests})
    holdfast_compiled(${name}_test)
    add_dependencies(checks ${name}_test)
    target_link_libraries(${name}_test PRIVATE ${target} ${ARG_TEST_LINK} GTest::gmock GTest::gtest_main)
    gtest_discover_tests(${name}_test TEST_PREFIX ${name}. DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 300)
  endif()
  if(HOLDFAST_FUZZ)
    foreach(fuzzer ${fuzzers})
      get_filename_component(fuzzer_name ${fuzzer} NAME_WE)
      add_executable(${fuzzer_name} ${fuzzer})
      holdfast_compiled(${fuzzer_name} ${name})
      add_dependencies(checks ${fuzzer_name})
      target_link_libraries(${fuzzer_name} PRIVATE ${target})
      target_link_options(${fuzzer_name} PRIVATE -fsanitize=fuzzer)
    endforeach()
  endif()
  if(HOLDFAST_BENCH AND benches)
    add_executable(${name}_bench ${benches})
    target_link_libraries(${name}_bench PRIVATE ${target} benchmark::benchmark_main)
  endif()
endfunction()
