# The test kit, pier_testdb: libraries of their own, over the public library. Its shell script is compiled in.
set(pier_script ${PROJECT_SOURCE_DIR}/sdk/testing/server.sh)
set_property(DIRECTORY ${PROJECT_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${pier_script})
file(READ ${pier_script} pier_bytes HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," pier_bytes ${pier_bytes})
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/testing_script.c
     CONTENT "extern const char pier__testing_script[];\nconst char pier__testing_script[] = {@pier_bytes@0};\n" @ONLY)

file(GLOB pier_testing_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/sdk/testing/*.c)
add_library(pier_testing_objects OBJECT ${pier_testing_sources} ${PROJECT_BINARY_DIR}/testing_script.c)
pier_compile_options(pier_testing_objects)
set_target_properties(pier_testing_objects PROPERTIES POSITION_INDEPENDENT_CODE ON C_VISIBILITY_PRESET hidden)
target_compile_definitions(pier_testing_objects PRIVATE _GNU_SOURCE)
target_include_directories(pier_testing_objects PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR})

add_library(pier_testing_shared SHARED $<TARGET_OBJECTS:pier_testing_objects>)
set_target_properties(pier_testing_shared PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION 0 LINK_DEPENDS ${pier_map})
target_link_options(pier_testing_shared PRIVATE LINKER:--version-script=${pier_map})
if(NOT PIER_SANITIZE)
    target_link_options(pier_testing_shared PRIVATE LINKER:-z,defs)
endif()
add_library(pier_testing_static STATIC $<TARGET_OBJECTS:pier_testing_objects>)
foreach(kind IN ITEMS shared static)
    set_target_properties(pier_testing_${kind} PROPERTIES OUTPUT_NAME pier-testing LINKER_LANGUAGE C)
    target_link_libraries(pier_testing_${kind} PUBLIC pier_${kind} PRIVATE Threads::Threads)
    add_library(Pier::pier_testing_${kind} ALIAS pier_testing_${kind})
    install(TARGETS pier_testing_${kind} EXPORT Pier_${kind}
            LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
            ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
endforeach()
string(REPLACE pier_ pier_testing_ PIER_DEFAULT_TESTING ${PIER_DEFAULT_TARGET})
add_library(Pier::testing ALIAS ${PIER_DEFAULT_TESTING})

# For the project's own tests, over pier_internals.
add_library(pier_testing_internals STATIC EXCLUDE_FROM_ALL $<TARGET_OBJECTS:pier_testing_objects>)
set_target_properties(pier_testing_internals PROPERTIES LINKER_LANGUAGE C)

configure_file(${PROJECT_SOURCE_DIR}/cmake/pier-testing.pc.in ${PROJECT_BINARY_DIR}/pier-testing.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/pier-testing.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
