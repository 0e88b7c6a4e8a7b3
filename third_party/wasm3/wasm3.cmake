# wasm3.cmake: obtains wasm3's source at configure time and defines the target `wasm3`.
#
# Owns: where the source comes from, its checksum, and the flags that it must be compiled with.
# wasm3 v0.5.0 is taken from the source distribution of PyPI's pywasm3 0.5.0 (../pypi.cmake).
# Its README.md says more.
#
# The target is an OBJECT library: wasm3's own files, and csrc/vm_compile.c in place of m3_compile.c
# and m3_emit.c. Linking against it gives the include path, as system headers.

velum_pypi_source(
  wasm3 OUT velum_wasm3_folder
  DISTRIBUTION pywasm3 VERSION 0.5.0
  SHA256 5a47c8a39f7f6ae71b3316b2e5d86c9d0db6e771a65f09a86e4d4aa3a19aefcc
  HOLDS wasm3/m3_compile.c)

set(velum_wasm3_core ${CMAKE_CURRENT_LIST_DIR}/../../csrc)
set(velum_wasm3_sources ${velum_wasm3_core}/vm_compile.c)
foreach(name bind code core env exec function info module parse)
  list(APPEND velum_wasm3_sources ${velum_wasm3_folder}/wasm3/m3_${name}.c)
endforeach()

add_library(wasm3 OBJECT ${velum_wasm3_sources})
target_include_directories(wasm3 PRIVATE ${velum_wasm3_core} ${velum_wasm3_core}/include)
target_include_directories(wasm3 SYSTEM PUBLIC ${velum_wasm3_folder}/wasm3)
# These come last, and so hold in every build type: without optimisation there are no tail calls and
# the interpreter eats the stack, and so it does under a sanitizer.
target_compile_options(wasm3 PRIVATE -O3 -fno-strict-aliasing -fomit-frame-pointer
                       -fno-sanitize=all -UDEBUG -w)
set_target_properties(wasm3 PROPERTIES C_STANDARD 99 C_EXTENSIONS ON POSITION_INDEPENDENT_CODE ON)
