include(CMakePackageConfigHelpers)
set(pier_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/Pier)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES ${PROJECT_SOURCE_DIR}/scripts/gdb/pier.py DESTINATION ${CMAKE_INSTALL_DATADIR}/pier/gdb)

# Two export sets, because only the static library needs the development files of what it uses.
foreach(kind IN ITEMS shared static)
    install(TARGETS pier_${kind} EXPORT Pier_${kind}
            LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
            ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
    install(EXPORT Pier_${kind} NAMESPACE Pier:: FILE Pier_${kind}.cmake DESTINATION ${pier_package_dir})
endforeach()

configure_package_config_file(
    ${PROJECT_SOURCE_DIR}/cmake/PierConfig.cmake.in ${PROJECT_BINARY_DIR}/PierConfig.cmake
    INSTALL_DESTINATION ${pier_package_dir})
# Before 1.0 a minor version may break the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/PierConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/PierConfig.cmake ${PROJECT_BINARY_DIR}/PierConfigVersion.cmake
        DESTINATION ${pier_package_dir})

# The prefix of a .pc file is relative to it, so that an installation can be moved; an absolute library
# directory (Nix does that) is taken as it is.
string(JOIN ", " PIER_PC_REQUIRES ${PIER_REQUIRES})
if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR} OR IS_ABSOLUTE ${CMAKE_INSTALL_INCLUDEDIR})
    set(PIER_PC_PREFIX ${CMAKE_INSTALL_PREFIX})
    set(PIER_PC_LIBDIR ${CMAKE_INSTALL_FULL_LIBDIR})
    set(PIER_PC_INCLUDEDIR ${CMAKE_INSTALL_FULL_INCLUDEDIR})
else()
    file(RELATIVE_PATH pier_up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
    string(REGEX REPLACE "/$" "" pier_up ${pier_up})
    set(PIER_PC_PREFIX "\${pcfiledir}/${pier_up}")
    set(PIER_PC_LIBDIR "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
    set(PIER_PC_INCLUDEDIR "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
foreach(name IN ITEMS pier pier-static)
    configure_file(${PROJECT_SOURCE_DIR}/cmake/${name}.pc.in ${PROJECT_BINARY_DIR}/${name}.pc @ONLY)
    install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
