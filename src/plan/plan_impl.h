/* Inside src/plan. */
#ifndef GALEN_PLAN_PLAN_IMPL_H
#define GALEN_PLAN_PLAN_IMPL_H

#include "plan/plan.h"

/** A plan with nothing on the device. NULL without memory. */
plan *plan_new(const plan_request *r);
/** Count bytes and crossings, reckon times, from parts, has_head and streamed. */
void plan_measure(plan *p, const plan_request *r);
/** Let the device fetch n of the streamed feed-forwards in every step, evenly spread; fewer where there are fewer. */
void plan_set_fetched(plan *p, int32_t n);
/** decode_s, prefill_s, stream_rows. */
void plan_time(plan *p, const plan_request *r);
/** Seconds of a prompt of 512 tokens and an answer of 128: what plans are compared by. */
double plan_score(const plan *p, const plan_request *r);
/** Device and host can hold it. */
bool plan_fits(const plan *p, const plan_request *r);
/** plan_make without the list of choices in its error. */
galen_status plan_choose(plan **out, const plan_request *r, galen_error *err);

#endif
