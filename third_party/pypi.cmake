# pypi.cmake: source of other people's, obtained at configure time from PyPI's source distributions.
#
# Owns: how an archive is fetched, checked against its pinned SHA-256 and unpacked, and how a build
# without a network names a copy of its own. Refuses to know: what is inside, and how it is
# compiled: <name>/<name>.cmake.
# It fetches with pip, so that whatever makes pip work (a proxy, a mirror) makes this work.
#
#   velum_pypi_source(<name> OUT <variable> DISTRIBUTION <project> VERSION <version> SHA256 <sum>
#                     HOLDS <file> [BACKEND <folder>])
#
# sets <variable> to the unpacked distribution's folder, which must hold <file>. It lies in
# ${CMAKE_BINARY_DIR}/third_party and is used again by later configurations. The archive lies in
# VELUM_DOWNLOADS, the same folder unless several builds are to share one.
# VELUM_<NAME>_SOURCE, as a cache or an environment variable, names a local copy instead: the
# archive, or the folder it unpacks to.
#
# pip wants an archive's metadata before it hands it out, and asks the archive's build backend for
# it. Where that backend is more than a build of Velum may ask for, <folder> holds a module of the
# backend's name that answers in its place.

set(VELUM_DOWNLOADS ${CMAKE_BINARY_DIR}/third_party CACHE PATH "where fetched archives are kept")

# What to do without the registry.
function(velum_pypi_help name archive out)
  string(TOUPPER ${name} upper)
  string(CONCAT text
    "For a build without the registry, fetch ${archive}.tar.gz elsewhere and name it:\n"
    "  cmake -DVELUM_${upper}_SOURCE=/path/to/${archive}.tar.gz ...\n"
    "or set the environment variable VELUM_${upper}_SOURCE (pip install and pip wheel heed it too).")
  set(${out} "${text}" PARENT_SCOPE)
endfunction()

# Unpacks `file` to ${folder}/${archive}, if it is the one that is pinned. A broken-off unpacking
# leaves nothing there that a later run could take for the whole.
function(velum_pypi_unpack name archive sha256 file folder)
  file(SHA256 "${file}" found)
  if(NOT found STREQUAL sha256)
    velum_pypi_help(${name} ${archive} help)
    message(FATAL_ERROR "${name}: ${file} is not the pinned ${archive}.tar.gz.\n"
            "  expected SHA-256 ${sha256}\n  found            ${found}\n${help}")
  endif()
  file(REMOVE_RECURSE ${folder}/unpacking ${folder}/${archive})
  file(ARCHIVE_EXTRACT INPUT "${file}" DESTINATION ${folder}/unpacking)
  file(RENAME ${folder}/unpacking/${archive} ${folder}/${archive})
  file(REMOVE_RECURSE ${folder}/unpacking)
endfunction()

# Downloads ${distribution}==${version}; tries twice, because registries hiccup. The Python that a
# distribution says it wants does not matter to its C files.
function(velum_pypi_download name distribution version sha256 backend)
  velum_pypi_help(${name} ${distribution}-${version} help)
  if(NOT Python_EXECUTABLE)
    find_package(Python COMPONENTS Interpreter)
  endif()
  if(NOT Python_EXECUTABLE)
    message(FATAL_ERROR "${name}: its source is fetched with pip, and no Python was found.\n${help}")
  endif()
  set(requirement ${distribution}==${version})
  set(pinned ${CMAKE_BINARY_DIR}/third_party/${name}.txt)
  file(WRITE ${pinned} "${requirement} --hash=sha256:${sha256}\n")
  set(command ${Python_EXECUTABLE} -m pip download -q --disable-pip-version-check --no-deps
      --no-binary ${distribution} --ignore-requires-python --require-hashes
      -r ${pinned} -d ${VELUM_DOWNLOADS})
  if(backend)
    set(command ${CMAKE_COMMAND} -E env "PYTHONPATH=${backend}:$ENV{PYTHONPATH}"
        ${command} --no-build-isolation)
  endif()
  foreach(attempt RANGE 1 2)
    message(STATUS "${name}: fetching ${requirement} with pip (attempt ${attempt})")
    execute_process(COMMAND ${command} RESULT_VARIABLE status OUTPUT_VARIABLE output
                    ERROR_VARIABLE output TIMEOUT 180)
    if(status EQUAL 0)
      return()
    endif()
    if(output MATCHES "DO NOT MATCH THE HASHES")
      message(FATAL_ERROR "${name}: the registry's ${requirement} is not the pinned one; "
              "nothing of it was used.\n${output}\n${help}")
    endif()
  endforeach()
  message(FATAL_ERROR "${name}: could not fetch ${requirement} with "
          "`${Python_EXECUTABLE} -m pip download` (status ${status}).\n${output}\n${help}")
endfunction()

function(velum_pypi_source name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "OUT;DISTRIBUTION;VERSION;SHA256;HOLDS;BACKEND" "")
  string(TOUPPER ${name} upper)
  set(variable VELUM_${upper}_SOURCE)
  set(archive ${arg_DISTRIBUTION}-${arg_VERSION})
  set(folder ${CMAKE_BINARY_DIR}/third_party)
  set(unpacked ${folder}/${archive})
  set(${variable} "" CACHE PATH "local copy of ${archive}: its .tar.gz or unpacked folder")
  set(local "${${variable}}")
  if(NOT local AND DEFINED ENV{${variable}})
    set(local "$ENV{${variable}}")
  endif()
  if(local AND NOT EXISTS "${local}")
    message(FATAL_ERROR "${name}: ${variable} names ${local}, which does not exist.")
  elseif(local AND IS_DIRECTORY "${local}")
    if(NOT EXISTS "${local}/${arg_HOLDS}")
      message(FATAL_ERROR "${name}: ${variable} names ${local}, which is not an unpacked "
              "${archive}: it has no ${arg_HOLDS}.")
    endif()
    set(unpacked "${local}")
  elseif(local)
    velum_pypi_unpack(${name} ${archive} ${arg_SHA256} "${local}" ${folder})
  elseif(NOT EXISTS ${unpacked}/${arg_HOLDS})
    set(fetched ${VELUM_DOWNLOADS}/${archive}.tar.gz)
    if(NOT EXISTS ${fetched})
      velum_pypi_download(${name} ${arg_DISTRIBUTION} ${arg_VERSION} ${arg_SHA256}
                          "${arg_BACKEND}")
    endif()
    velum_pypi_unpack(${name} ${archive} ${arg_SHA256} ${fetched} ${folder})
  endif()
  set(${arg_OUT} "${unpacked}" PARENT_SCOPE)
endfunction()
