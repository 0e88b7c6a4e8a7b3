# wasm3.cmake: obtains wasm3's source at configure time and defines the target `wasm3`.
#
# Owns: where the source comes from, its checksum, and the flags that it must be compiled with.
# wasm3 v0.5.0 is taken from the source distribution of PyPI's pywasm3 0.5.0, pinned by SHA-256 and
# fetched with pip, so that whatever makes pip work (a proxy, a mirror) makes this work.
# For a build without a network, VELUM_WASM3_SOURCE, as a cache or an environment variable, names a
# local copy: that archive, or the folder it unpacks to. Its README.md says more.
#
# The target is an OBJECT library: wasm3's own files, and csrc/vm_compile.c in place of m3_compile.c
# and m3_emit.c. Linking against it gives the include path, as system headers.

set(VELUM_WASM3_SOURCE "" CACHE PATH "local copy of pywasm3-0.5.0: its .tar.gz or unpacked folder")

set(velum_wasm3_name pywasm3-0.5.0)
set(velum_wasm3_requirement pywasm3==0.5.0)
set(velum_wasm3_sha256 5a47c8a39f7f6ae71b3316b2e5d86c9d0db6e771a65f09a86e4d4aa3a19aefcc)
set(velum_wasm3_offline
    "For a build without the registry, fetch ${velum_wasm3_name}.tar.gz elsewhere and name it:\n"
    "  cmake -DVELUM_WASM3_SOURCE=/path/to/${velum_wasm3_name}.tar.gz ...\n"
    "or set the environment variable VELUM_WASM3_SOURCE (pip install and pip wheel heed it too).")
string(CONCAT velum_wasm3_offline ${velum_wasm3_offline})

# Stops unless `archive` is the one that is pinned.
function(velum_wasm3_check archive)
  file(SHA256 ${archive} found)
  if(NOT found STREQUAL velum_wasm3_sha256)
    message(FATAL_ERROR "wasm3: ${archive} is not the pinned ${velum_wasm3_name}.tar.gz.\n"
            "  expected SHA-256 ${velum_wasm3_sha256}\n  found            ${found}\n"
            "${velum_wasm3_offline}")
  endif()
endfunction()

# Unpacks a checked archive to ${folder}/${velum_wasm3_name}; a broken-off unpacking leaves nothing
# there that a later run could take for the whole.
function(velum_wasm3_unpack archive folder)
  velum_wasm3_check(${archive})
  file(REMOVE_RECURSE ${folder}/unpacking ${folder}/${velum_wasm3_name})
  file(ARCHIVE_EXTRACT INPUT ${archive} DESTINATION ${folder}/unpacking)
  file(RENAME ${folder}/unpacking/${velum_wasm3_name} ${folder}/${velum_wasm3_name})
  file(REMOVE_RECURSE ${folder}/unpacking)
endfunction()

# Downloads the archive into `folder`; tries twice, because registries hiccup.
function(velum_wasm3_download folder)
  if(NOT Python_EXECUTABLE)
    find_package(Python COMPONENTS Interpreter)
  endif()
  if(NOT Python_EXECUTABLE)
    message(FATAL_ERROR "wasm3: its source is fetched with pip, and no Python was found.\n"
            "${velum_wasm3_offline}")
  endif()
  file(WRITE ${folder}/requirements.txt
       "${velum_wasm3_requirement} --hash=sha256:${velum_wasm3_sha256}\n")
  foreach(attempt RANGE 1 2)
    message(STATUS "wasm3: fetching ${velum_wasm3_requirement} with pip (attempt ${attempt})")
    execute_process(
      COMMAND ${Python_EXECUTABLE} -m pip download -q --disable-pip-version-check --no-deps
              --no-binary pywasm3 --require-hashes -r ${folder}/requirements.txt -d ${folder}
      RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output TIMEOUT 180)
    if(status EQUAL 0)
      return()
    endif()
    if(output MATCHES "DO NOT MATCH THE HASHES")
      message(FATAL_ERROR "wasm3: the registry's ${velum_wasm3_requirement} is not the pinned one; "
              "nothing of it was used.\n${output}\n${velum_wasm3_offline}")
    endif()
  endforeach()
  message(FATAL_ERROR "wasm3: could not fetch ${velum_wasm3_requirement} with "
          "`${Python_EXECUTABLE} -m pip download` (status ${status}).\n${output}\n"
          "${velum_wasm3_offline}")
endfunction()

# Sets `out` to the folder of wasm3's C files.
function(velum_wasm3_locate out)
  set(folder ${CMAKE_BINARY_DIR}/wasm3)
  set(unpacked ${folder}/${velum_wasm3_name}/wasm3)
  set(local "${VELUM_WASM3_SOURCE}")
  if(NOT local AND DEFINED ENV{VELUM_WASM3_SOURCE})
    set(local "$ENV{VELUM_WASM3_SOURCE}")
  endif()
  if(local AND NOT EXISTS "${local}")
    message(FATAL_ERROR "wasm3: VELUM_WASM3_SOURCE names ${local}, which does not exist.")
  elseif(local AND IS_DIRECTORY "${local}")
    if(NOT EXISTS "${local}/wasm3/m3_compile.c")
      message(FATAL_ERROR "wasm3: VELUM_WASM3_SOURCE names ${local}, which is not an unpacked "
              "${velum_wasm3_name}: it has no wasm3/m3_compile.c.")
    endif()
    set(unpacked "${local}/wasm3")
  elseif(local)
    velum_wasm3_unpack("${local}" ${folder})
  elseif(NOT EXISTS ${unpacked}/m3_compile.c)
    set(archive ${folder}/${velum_wasm3_name}.tar.gz)
    if(NOT EXISTS ${archive})
      velum_wasm3_download(${folder})
    endif()
    velum_wasm3_unpack(${archive} ${folder})
  endif()
  set(${out} ${unpacked} PARENT_SCOPE)
endfunction()

velum_wasm3_locate(velum_wasm3_folder)
set(velum_wasm3_core ${CMAKE_CURRENT_LIST_DIR}/../../csrc)
set(velum_wasm3_sources ${velum_wasm3_core}/vm_compile.c)
foreach(name bind code core env exec function info module parse)
  list(APPEND velum_wasm3_sources ${velum_wasm3_folder}/m3_${name}.c)
endforeach()

add_library(wasm3 OBJECT ${velum_wasm3_sources})
target_include_directories(wasm3 PRIVATE ${velum_wasm3_core} ${velum_wasm3_core}/include)
target_include_directories(wasm3 SYSTEM PUBLIC ${velum_wasm3_folder})
# These come last, and so hold in every build type: without optimisation there are no tail calls and
# the interpreter eats the stack, and so it does under a sanitizer.
target_compile_options(wasm3 PRIVATE -O3 -fno-strict-aliasing -fomit-frame-pointer
                       -fno-sanitize=all -UDEBUG -w)
set_target_properties(wasm3 PROPERTIES C_STANDARD 99 C_EXTENSIONS ON POSITION_INDEPENDENT_CODE ON)
