/* The products on AVX2 with AVX-VNNI: processors since Alder Lake that have no AVX-512. */
#define MM_ISA  "avx2"
#define MM_NAME matmul_avxvnni
#include "backend/cpu/matmul_avx2.h"
