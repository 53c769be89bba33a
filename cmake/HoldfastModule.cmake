# holdfast_module(<name> USES <modules it may include> LINK <libraries> PROTO <.proto files>)
#
# One static library for each module of src/, made of every .cc below it but
#   *_test.cc   linked into <name>_test (GoogleTest), and known to ctest,
#   *_fuzz.cc   one libFuzzer target each (HOLDFAST_FUZZ),
#   *_bench.cc  linked into <name>_bench (Google Benchmark, HOLDFAST_BENCH).
# USES is the module's row of the layer table (docs/architecture.md); the `layers` test compares the three.
#
# With HOLDFAST_PCH everything is compiled behind one precompiled header of what most files include. It hides a missing
# #include, so that the release build goes without.
if(HOLDFAST_PCH)
  file(WRITE ${CMAKE_BINARY_DIR}/pch/empty.cc "")
  add_library(holdfast_pch STATIC ${CMAKE_BINARY_DIR}/pch/empty.cc)
  target_link_libraries(holdfast_pch PRIVATE fmt::fmt spdlog::spdlog Threads::Threads)
  # Of protobuf: what generated headers include.
  set(precompiled <google/protobuf/generated_message_reflection.h> <google/protobuf/message.h> <google/protobuf/repeated_field.h>
      <google/protobuf/unknown_field_set.h> <fmt/format.h> <algorithm> <chrono> <condition_variable> <filesystem> <functional> <fstream> <map>
      <memory> <optional> <set> <span> <string> <string_view> <thread> <utility> <vector>)
  if(HOLDFAST_TESTS)
    target_link_libraries(holdfast_pch PRIVATE GTest::gmock)
    list(APPEND precompiled <gmock/gmock.h> <gtest/gtest.h>)
  endif()
  target_precompile_headers(holdfast_pch PRIVATE ${precompiled})
endif()

# With HOLDFAST_UNITY some files of a module are compiled as one, which saves most of the time. A name in an unnamed
# namespace is therefore used once in a module's sources, and once in its unit tests. The release build compiles each alone.
function(holdfast_compiled_faster target)
  if(HOLDFAST_PCH)
    target_precompile_headers(${target} REUSE_FROM holdfast_pch)
  endif()
  if(HOLDFAST_UNITY)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
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
    holdfast_compiled_faster(${target})
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
    holdfast_compiled_faster(${name}_test)
    target_link_libraries(${name}_test PRIVATE ${target} ${ARG_TEST_LINK} GTest::gmock GTest::gtest_main)
    gtest_discover_tests(${name}_test TEST_PREFIX ${name}. DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 300)
  endif()
  if(HOLDFAST_FUZZ)
    foreach(fuzzer ${fuzzers})
      get_filename_component(fuzzer_name ${fuzzer} NAME_WE)
      add_executable(${fuzzer_name} ${fuzzer})
      target_link_libraries(${fuzzer_name} PRIVATE ${target})
      target_link_options(${fuzzer_name} PRIVATE -fsanitize=fuzzer)
    endforeach()
  endif()
  if(HOLDFAST_BENCH AND benches)
    add_executable(${name}_bench ${benches})
    target_link_libraries(${name}_bench PRIVATE ${target} benchmark::benchmark_main)
  endif()
endfunction()
