#include "runtime/fallback.h"

typedef struct rule {
    const char *what, *remedy;
    fall_action action;
    galen_status code;
    bool is_named_fine;  /* --device cuda does not make it an error */
    bool is_once;        /* the second time it is an error          */
    bool is_loud_always; /* else only where a card is, or was asked for */
} rule;

static const rule rules[N_FALL_EVENTS] = {
    [FALL_NO_PLUGIN] = {"the GPU is not used: its plugin does not load", "`make cuda` builds it; galen doctor says more",
                        FALL_CPU, GALEN_E_DEVICE, false, false, false},
    [FALL_NO_DEVICE] = {"the GPU is not used", "galen doctor says more; --device cpu asks for this", FALL_CPU, GALEN_E_DEVICE,
                        false, false, false},
    [FALL_NO_FIT] = {"the layers asked for do not fit the GPU", "--gpu-layers auto takes as many as fit", FALL_FEWER,
                     GALEN_E_NOMEM, true, false, true},
    [FALL_UNUSED] = {"a GPU is here and not used", "galen plan says more; --device cpu asks for this", FALL_CPU, GALEN_E_NOMEM,
                     false, false, true},
    [FALL_UNSUPPORTED] = {"the GPU is not used: its code does not take this", "--device cpu asks for the CPU", FALL_CPU,
                          GALEN_E_DEVICE, false, false, true},
    [FALL_LOAD_MEMORY] = {"GPU memory ran out",
                          "close what else uses the card (galen doctor names it), or set --gpu-layers lower", FALL_FEWER,
                          GALEN_E_NOMEM, true, true, true},
    [FALL_LOAD_DEVICE] = {"the GPU failed while the model was loaded", "galen doctor says more; --device cpu asks for this",
                          FALL_CPU, GALEN_E_DEVICE, false, true, true},
    [FALL_STEP] = {"the GPU failed while it computed", "galen doctor says more; --device cpu asks for this", FALL_CPU,
                   GALEN_E_DEVICE, false, true, true},
};

fall_decision fallback_decide(fall_event e, const fall_policy *p) {
    const rule *r = &rules[e];
    const bool is_loud = r->is_loud_always || p->is_gpu_here || p->is_asked;
    fall_decision d = {.action = r->action, .is_loud = is_loud, .code = r->code};
    if (p->is_required || (p->is_named && !r->is_named_fine) || (p->is_strict && is_loud) || (r->is_once && p->n_fallen > 0))
        d.action = FALL_ERROR;
    return d;
}

const char *fallback_what(fall_event e) {
    return rules[e].what;
}

const char *fallback_remedy(fall_event e) {
    return rules[e].remedy;
}
