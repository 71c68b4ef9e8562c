/* What turns a row of logits into log-probabilities. */
#ifndef GALEN_TENSOR_LOG_SUM_H
#define GALEN_TENSOR_LOG_SUM_H

#include <stdint.h>

/** log(sum(exp(x))) of n >= 1 numbers, to 3e-7; the same bits on every machine. NaN when one of them is not finite. */
double log_sum(const float *x, int32_t n);

#endif
