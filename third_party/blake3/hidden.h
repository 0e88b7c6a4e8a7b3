/* hidden.h: comes before each assembly file of BLAKE3 (blake3.cmake), and makes its functions the
 * property of the library that they are linked into, like C functions of hidden visibility. */
#if defined(__ELF__)
.irp name, compress_in_place_sse2, compress_in_place_sse41, compress_in_place_avx512, \
           compress_xof_sse2, compress_xof_sse41, compress_xof_avx512, \
           hash_many_sse2, hash_many_sse41, hash_many_avx2, hash_many_avx512
.hidden blake3_\name
.hidden _blake3_\name
.endr
#endif
