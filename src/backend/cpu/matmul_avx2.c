/* The products on AVX2, FMA and F16C. */
#define MM_ISA  "avx2"
#define MM_NAME matmul_avx2
#include "backend/cpu/matmul_avx2.h"
