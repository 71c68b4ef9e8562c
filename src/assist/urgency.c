/* The model's own view of how urgent it is, which may raise the rules' level and never lowers it. A model that says yes to
 * everything is seen through: what is counted is the log-odds of yes against those that the same question gets with no complaint
 * at all. */
#include <math.h>
#include <string.h>

#include "assist/case.h"

#define NO_COMPLAINT "I feel well and have no complaints."

/* From this probability on, both raw and against no complaint. Without data to fit them on they are set high: a level raised for
 * nothing costs trust, and the rules stand before this. */
#define P_WITHIN_A_DAY 0.8
#define P_EMERGENCY    0.95

static galen_status odds_for(galen_assistant *a, const char *symptoms, double *odds, galen_error *err) {
    double logprobs[ODDS_IDS];
    const prompt_values v = {.of = {[FIELD_SYMPTOMS] = symptoms}};
    look l = {.ids = a->odds_ids, .n_ids = score_n_odds(a), .out = logprobs};
    *odds = 0;
    if (!l.n_ids) return GALEN_OK;
    galen_status st = edge_look_at(a, PROMPT_URGENT, &v, "symptoms make", &l, err);
    if (!st)
        st = edge_look(a, &l, 1, err);
    else
        looks_free(&l, 1);
    if (!st) *odds = score_odds(a, logprobs);
    return st;
}

static double probability(double odds) {
    return 1 / (1 + exp(-odds));
}

galen_status urgency_read(galen_assistant *a, galen_differential *d, bool *is_raised, galen_error *err) {
    double odds = 0;
    *is_raised = false;
    galen_status st = odds_for(a, a->c.field, &odds, err);
    if (!st && !a->has_calm) {
        st = odds_for(a, NO_COMPLAINT, &a->calm, err);
        a->has_calm = !st;
    }
    if (st) return st;
    const double raw = probability(odds), against = probability(odds - a->calm);
    d->urgency = raw < against ? raw : against;
    if (d->urgency >= P_WITHIN_A_DAY)
        *is_raised =
            case_raise(&a->c, "model.urgency", "model", "The model reads this as urgent; the rules alone would have let it wait.",
                       "the model's own reading, against an empty complaint",
                       d->urgency >= P_EMERGENCY ? GALEN_TRIAGE_EMERGENCY : GALEN_TRIAGE_CONSULTATION_24);
    return GALEN_OK;
}
