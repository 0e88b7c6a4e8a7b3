# blake3.cmake: obtains BLAKE3's C source at configure time and defines the target `blake3`.
#
# Owns: where the source comes from, its checksum, and which of its files suit the target machine.
# The official C implementation is taken from the source distribution of PyPI's blake3 1.0.11
# (../pypi.cmake). Its README.md says more.
#
# The target is an OBJECT library; linking against it gives the include path, as system headers.
# What the compiler says of its target decides, not the name of a processor: that is whatever the
# one who builds calls it.

include(CheckCSourceCompiles)

velum_pypi_source(
  blake3 OUT velum_blake3_folder
  DISTRIBUTION blake3 VERSION 1.0.11
  SHA256 d73c0a87304d41045f6753a922113bede3ab09eda2d20371566a5bbe357c3deb
  HOLDS c_impl/vendor/blake3.h
  BACKEND ${CMAKE_CURRENT_LIST_DIR}/backend)
set(velum_blake3_folder ${velum_blake3_folder}/c_impl/vendor)

# Sets `out`, in the cache, to whether `condition` holds in the preprocessor for the target.
function(velum_blake3_target out condition)
  set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
  check_c_source_compiles("#if !(${condition})\n#error\n#endif\nint velum_target;" ${out})
endfunction()

# Assembly in GNU's syntax for System V's calling convention, 64-bit pointers.
velum_blake3_target(VELUM_BLAKE3_X86_64
    "defined(__x86_64__) && !defined(__ILP32__) && (defined(__ELF__) || defined(__APPLE__))")
velum_blake3_target(VELUM_BLAKE3_NEON "defined(__aarch64__) && !defined(__AARCH64EB__)")

set(velum_blake3_names blake3.c blake3_dispatch.c blake3_portable.c)
set(velum_blake3_options BLAKE3_NO_SSE2 BLAKE3_NO_SSE41 BLAKE3_NO_AVX2 BLAKE3_NO_AVX512)
if(VELUM_BLAKE3_X86_64)
  enable_language(ASM)
  set(velum_blake3_options "")
  foreach(level sse2 sse41 avx2 avx512)
    list(APPEND velum_blake3_names blake3_${level}_x86-64_unix.S)
  endforeach()
endif()
if(VELUM_BLAKE3_NEON)
  list(APPEND velum_blake3_names blake3_neon.c)
  list(APPEND velum_blake3_options BLAKE3_USE_NEON=1)
else()
  list(APPEND velum_blake3_options BLAKE3_USE_NEON=0)
endif()

add_library(blake3 OBJECT)
foreach(name ${velum_blake3_names})
  target_sources(blake3 PRIVATE ${velum_blake3_folder}/${name})
endforeach()
target_include_directories(blake3 SYSTEM PUBLIC ${velum_blake3_folder})
target_compile_definitions(blake3 PRIVATE ${velum_blake3_options})
# -O3 comes last, and so holds in every build type: tests hash a lot.
target_compile_options(
  blake3 PRIVATE -O3 -w $<$<COMPILE_LANGUAGE:ASM>:-include${CMAKE_CURRENT_LIST_DIR}/hidden.h>)
set_target_properties(blake3 PROPERTIES C_STANDARD 99 C_EXTENSIONS ON POSITION_INDEPENDENT_CODE ON)
