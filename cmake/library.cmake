# One set of objects, three archives: the shared library, the static library, and pier_internals, which
# tests link to reach functions that the shared library hides.
file(GLOB pier_sources CONFIGURE_DEPENDS
     ${PROJECT_SOURCE_DIR}/sdk/*.c ${PROJECT_SOURCE_DIR}/sdk/*.S
     ${PROJECT_SOURCE_DIR}/sync/*.c ${PROJECT_SOURCE_DIR}/drivers/*.c)
if(NOT PIER_WITH_HTTP)
    # Its functions are left out, so that a program that calls them fails to link, not to run.
    list(REMOVE_ITEM pier_sources ${PROJECT_SOURCE_DIR}/sync/http.c)
endif()
if(NOT PIER_WITH_SQLITE)
    list(FILTER pier_sources EXCLUDE REGEX "/sync/sqlite[^/]*\\.c$")
endif()
set(pier_definitions _GNU_SOURCE)
foreach(driver IN ITEMS sqlite postgres http)
    string(TOUPPER ${driver} upper)
    if(PIER_WITH_${upper})
        set(PIER_WITH_${upper}_VALUE 1)
        file(GLOB driver_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/drivers/${driver}/*.c)
        list(APPEND pier_sources ${driver_sources})
    else()
        set(PIER_WITH_${upper}_VALUE 0)
    endif()
    list(APPEND pier_definitions PIER_WITH_${upper}=${PIER_WITH_${upper}_VALUE})
endforeach()

# A tree without sources must configure and link too: the parts of the project grow side by side.
set(PIER_HAS_SOURCES TRUE)
if(NOT pier_sources)
    set(PIER_HAS_SOURCES FALSE)
    file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/no_sources.c CONTENT "typedef int pier_no_sources;\n")
    set(pier_sources ${PROJECT_BINARY_DIR}/no_sources.c)
endif()

function(pier_compile_options target)
    set_target_properties(${target} PROPERTIES C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF)
    target_compile_options(${target} PRIVATE
        $<$<COMPILE_LANGUAGE:C>:-Wall;-Wextra;-Wshadow;-Wstrict-prototypes;-Wmissing-prototypes;-Wpointer-arith;-Wvla;-Wformat=2>
        $<$<AND:$<BOOL:${PIER_WERROR}>,$<COMPILE_LANGUAGE:C>>:-Werror>)
endfunction()

add_library(pier_objects OBJECT ${pier_sources})
pier_compile_options(pier_objects)
if(PIER_BUILD_FUZZ)
    target_compile_options(pier_objects PRIVATE -fsanitize=fuzzer-no-link)
endif()
set_target_properties(pier_objects PROPERTIES POSITION_INDEPENDENT_CODE ON C_VISIBILITY_PRESET hidden)
# Calls among the library's own functions are direct: nobody may replace them from outside.
include(CheckCCompilerFlag)
check_c_compiler_flag(-fno-semantic-interposition PIER_HAS_NO_INTERPOSITION)
if(PIER_HAS_NO_INTERPOSITION)
    target_compile_options(pier_objects PRIVATE $<$<COMPILE_LANGUAGE:C>:-fno-semantic-interposition>)
endif()
if(PIER_LTO)
    # Fat objects: the static library links without it, too, and with every other compiler.
    target_compile_options(pier_objects PRIVATE $<$<COMPILE_LANG_AND_ID:C,GNU>:-flto=auto;-ffat-lto-objects>)
endif()
target_compile_definitions(pier_objects PRIVATE ${pier_definitions})
target_include_directories(pier_objects PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR})
target_link_libraries(pier_objects PRIVATE ${PIER_LIBRARIES})

set(pier_map ${PROJECT_SOURCE_DIR}/cmake/pier.map)
add_library(pier_shared SHARED $<TARGET_OBJECTS:pier_objects>)
set_target_properties(pier_shared PROPERTIES OUTPUT_NAME pier VERSION ${PROJECT_VERSION} SOVERSION 0
                      LINKER_LANGUAGE C LINK_DEPENDS ${pier_map})
target_link_options(pier_shared PRIVATE LINKER:--version-script=${pier_map})
if(PIER_LTO)
    # gcc 12 takes the room of a name in a task for empty once it has seen all of its callers.
    target_link_options(pier_shared PRIVATE $<$<C_COMPILER_ID:GNU>:-flto=auto;-O2;-Wno-stringop-overflow>)
endif()
if(NOT PIER_SANITIZE)
    # Sanitizer runtimes live in the executable, so only a plain build can insist on having every symbol.
    target_link_options(pier_shared PRIVATE LINKER:-z,defs)
endif()
target_link_libraries(pier_shared PRIVATE ${PIER_LIBRARIES})

add_library(pier_static STATIC $<TARGET_OBJECTS:pier_objects>)
set_target_properties(pier_static PROPERTIES OUTPUT_NAME pier LINKER_LANGUAGE C)
target_link_libraries(pier_static PRIVATE ${PIER_LIBRARIES})

foreach(target IN ITEMS pier_shared pier_static)
    target_include_directories(${target} PUBLIC
        $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
    add_library(Pier::${target} ALIAS ${target})
endforeach()
if(BUILD_SHARED_LIBS)
    set(PIER_DEFAULT_TARGET pier_shared)
else()
    set(PIER_DEFAULT_TARGET pier_static)
endif()
add_library(Pier::pier ALIAS ${PIER_DEFAULT_TARGET})
# `cmake --build DIR --target pier` builds both libraries.
add_custom_target(pier DEPENDS pier_shared pier_static)

# Hidden symbols resolve inside one executable, so the same objects serve the tests.
add_library(pier_internals STATIC EXCLUDE_FROM_ALL $<TARGET_OBJECTS:pier_objects>)
set_target_properties(pier_internals PROPERTIES LINKER_LANGUAGE C)
target_compile_definitions(pier_internals INTERFACE ${pier_definitions})
target_include_directories(pier_internals INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR})
target_link_libraries(pier_internals PUBLIC ${PIER_LIBRARIES})
