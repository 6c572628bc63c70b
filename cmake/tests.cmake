pkg_check_modules(CMOCKA QUIET IMPORTED_TARGET cmocka)
if(NOT TARGET PkgConfig::CMOCKA)
    message(FATAL_ERROR "The tests need cmocka (Debian: libcmocka-dev), or configure with -DPIER_BUILD_TESTS=OFF")
endif()
find_package(Python3 3.9 COMPONENTS Interpreter REQUIRED)
# The interpreter itself: what PATH names may be a shim that takes longer to start than a test to run.
execute_process(COMMAND ${Python3_EXECUTABLE} -c "import sys; print(sys.executable)"
                OUTPUT_VARIABLE PIER_PYTHON OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)

# The guard is the parent of each server that a test starts, and ends it when the test is gone.
add_executable(pier_test_guard ${PROJECT_SOURCE_DIR}/tests/support/guard/main.c)
pier_compile_options(pier_test_guard)
# It forks, and a sanitizer would only slow it down.
target_compile_options(pier_test_guard PRIVATE -fno-sanitize=all)
target_link_options(pier_test_guard PRIVATE -fno-sanitize=all)
target_compile_definitions(pier_test_guard PRIVATE _GNU_SOURCE)

file(GLOB support_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/support/*.c)
add_library(pier_test_support STATIC EXCLUDE_FROM_ALL ${support_sources})
pier_compile_options(pier_test_support)
target_compile_definitions(pier_test_support
    PUBLIC _GNU_SOURCE
    PRIVATE PIER_TEST_GUARD="$<TARGET_FILE:pier_test_guard>"
            PIER_TEST_SUPPORT_DIR="${PROJECT_SOURCE_DIR}/tests/support"
            PIER_TEST_PYTHON="${PIER_PYTHON}")
target_include_directories(pier_test_support PUBLIC ${PROJECT_SOURCE_DIR})
target_link_libraries(pier_test_support PUBLIC Threads::Threads)
# Nothing of a test asks for it, but libuv does.
target_link_options(pier_test_support PUBLIC LINKER:--undefined=syscall)
add_dependencies(pier_test_support pier_test_guard)

# A database of their own for tests that are no C programs.
if(PIER_WITH_POSTGRES)
    add_executable(pier_test_database ${PROJECT_SOURCE_DIR}/tests/support/database/main.c)
    pier_compile_options(pier_test_database)
    target_compile_definitions(pier_test_database PRIVATE _GNU_SOURCE)
    set_target_properties(pier_test_database PROPERTIES OUTPUT_NAME database
                          RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests/support)
    target_link_libraries(pier_test_database PRIVATE pier_testing_internals pier_internals)
endif()

set(pier_test_environment
    CMOCKA_TEST_ABORT=1
    PIER_SOURCE_DIR=${PROJECT_SOURCE_DIR}
    PIER_BUILD_DIR=${PROJECT_BINARY_DIR}
    PIER_CC=${CMAKE_C_COMPILER}
    ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1:abort_on_error=0
    UBSAN_OPTIONS=print_stacktrace=1
    TSAN_OPTIONS=second_deadlock_stack=1
    LSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/support/lsan.supp)

# Under a few kernels a TSan program dies at start unless address randomization is off; scripts/test
# probes for that and then passes the wrapper.
set(PIER_TEST_WRAPPER "" CACHE STRING "Command to run each test under, such as setarch;-R")
set(PIER_TEST_TIMEOUT_FACTOR 1 CACHE STRING "How many times as long each test may take under PIER_TEST_WRAPPER")

function(pier_add_test kind timeout source)
    get_filename_component(name ${source} NAME_WE)
    foreach(driver IN ITEMS sqlite postgres http)
        string(TOUPPER ${driver} upper)
        if(name MATCHES "^test_${driver}" AND NOT PIER_WITH_${upper})
            return()
        endif()
    endforeach()
    if(name MATCHES "^test_sqllogictest" AND NOT PIER_WITH_SQLITE)
        return()
    endif()
    if(name MATCHES "^test_docker" AND NOT PIER_WITH_POSTGRES OR
       name MATCHES "^test_testing" AND NOT (PIER_WITH_POSTGRES AND PIER_WITH_SQLITE))
        return()
    endif()
    set(test ${kind}.${name})
    set(labels ${kind})
    math(EXPR timeout "${timeout} * ${PIER_TEST_TIMEOUT_FACTOR}")
    if(source MATCHES "\\.py$")
        list(APPEND labels python) # the wrapper would only see the interpreter
        add_test(NAME ${test} COMMAND ${PIER_PYTHON} ${source} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    else()
        add_executable(${test} ${source})
        pier_compile_options(${test})
        set_target_properties(${test} PROPERTIES OUTPUT_NAME ${name}
                              RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests/${kind})
        target_link_libraries(${test} PRIVATE pier_test_support pier_testing_internals pier_internals PkgConfig::CMOCKA)
        if(name MATCHES "^test_docker")
            # What needs containers runs under `ctest -C docker` alone, as scripts/test --docker does.
            set(configurations CONFIGURATIONS docker)
        endif()
        add_test(NAME ${test} COMMAND ${PIER_TEST_WRAPPER} $<TARGET_FILE:${test}> ${configurations})
    endif()
    set_tests_properties(${test} PROPERTIES LABELS "${labels}" TIMEOUT ${timeout}
                         ENVIRONMENT "${pier_test_environment}" SKIP_RETURN_CODE 77)
    if(name MATCHES "^test_docker")
        # They stop and pause what others of them use.
        set_tests_properties(${test} PROPERTIES RESOURCE_LOCK containers)
    endif()
    if(kind STREQUAL "torture")
        # Torture tests saturate the machine; beside them another test would see only noise.
        set_tests_properties(${test} PROPERTIES RUN_SERIAL ON)
    endif()
endfunction()

foreach(kind_timeout IN ITEMS "unit;60" "integration;180" "torture;180")
    list(GET kind_timeout 0 kind)
    list(GET kind_timeout 1 timeout)
    file(GLOB test_sources CONFIGURE_DEPENDS
         ${PROJECT_SOURCE_DIR}/tests/${kind}/test_*.c ${PROJECT_SOURCE_DIR}/tests/${kind}/test_*.py)
    foreach(source IN LISTS test_sources)
        pier_add_test(${kind} ${timeout} ${source})
    endforeach()
endforeach()

if(TARGET integration.test_testing_memory)
    # The kit takes memory from malloc itself, because its URLs are freed with free().
    target_link_options(integration.test_testing_memory PRIVATE
                        LINKER:--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup)
endif()

# The runner of SQL test files is a program of the public library; its unit tests link all of it but main.
file(GLOB sqllogictest_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/sqllogictest/*.c)
list(REMOVE_ITEM sqllogictest_sources ${PROJECT_SOURCE_DIR}/tests/sqllogictest/runner.c)
add_library(sqllogictest_parts OBJECT ${sqllogictest_sources})
add_executable(sqllogictest ${PROJECT_SOURCE_DIR}/tests/sqllogictest/runner.c $<TARGET_OBJECTS:sqllogictest_parts>)
set_target_properties(sqllogictest PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests/sqllogictest)
foreach(target IN ITEMS sqllogictest_parts sqllogictest)
    pier_compile_options(${target})
    target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
    target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
    target_link_libraries(${target} PRIVATE Pier::pier Threads::Threads)
endforeach()
foreach(part IN ITEMS md5 script values)
    if(TARGET unit.test_sqllogictest_${part})
        target_sources(unit.test_sqllogictest_${part} PRIVATE $<TARGET_OBJECTS:sqllogictest_parts>)
    endif()
endforeach()
foreach(database IN ITEMS memory file postgres)
    if(NOT PIER_WITH_POSTGRES AND database STREQUAL "postgres" OR
       NOT PIER_WITH_SQLITE AND NOT database STREQUAL "postgres")
        continue()
    endif()
    add_test(NAME sqllogictest.${database}
             COMMAND ${PROJECT_SOURCE_DIR}/tests/sqllogictest/run ${database}
                     ${PIER_TEST_WRAPPER} $<TARGET_FILE:sqllogictest>)
    set_tests_properties(sqllogictest.${database} PROPERTIES LABELS sqllogictest TIMEOUT 120
                         ENVIRONMENT "${pier_test_environment}" SKIP_RETURN_CODE 77)
endforeach()

# What follows checks the product as it is installed; its scripts exit with 77 where there is nothing to check.
add_test(NAME headers COMMAND ${PROJECT_SOURCE_DIR}/tests/consumer/check_headers ${PROJECT_SOURCE_DIR}/include)
add_test(NAME exports COMMAND ${PROJECT_SOURCE_DIR}/tests/consumer/check_exports
         $<TARGET_FILE:pier_shared> $<BOOL:${PIER_HAS_SOURCES}>)
set(pier_product_tests headers exports)
if(NOT PIER_SANITIZE AND NOT PIER_COVERAGE)
    # A program that was not built with the same instrumentation cannot load such a library.
    list(APPEND pier_product_tests consumer)
    add_test(NAME consumer COMMAND ${PROJECT_SOURCE_DIR}/tests/consumer/run ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}
             ${CMAKE_COMMAND} ${CMAKE_C_COMPILER} $<BOOL:${PIER_HAS_SOURCES}>)
endif()
foreach(name IN LISTS pier_product_tests)
    set_tests_properties(${name} PROPERTIES LABELS ${name} TIMEOUT 300 SKIP_RETURN_CODE 77)
endforeach()
