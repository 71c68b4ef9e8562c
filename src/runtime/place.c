#include "runtime/place.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "runtime/speeds.h"

struct placer {
    const network *net;
    galen_model_opts opts; /* strings are the arena's */
    int32_t n_threads;
    fall_policy policy;
    bool is_plain; /* --device cpu or ref: no GPU is looked for */
    found_gpu gpu;
    arena mem;
    pthread_mutex_t lock; /* of all below, and of the arena */
    placement *now;
    const char *fell_back;
};

/* ---------------------------------------------------------------- words */

static void tell(const placer *p, galen_notice level, const char *text) {
    if (p->opts.notice) p->opts.notice(p->opts.notice_user, level, text);
}

/* "the GPU is not used: <cause>; <remedy>", kept and sent out. */
static void tell_fall(placer *p, fall_event e, const char *cause) {
    char text[1024];
    (void)snprintf(text, sizeof text, "%s: %s; %s", fallback_what(e), cause, fallback_remedy(e));
    char *kept = arena_strndup(&p->mem, text, strlen(text));
    p->fell_back = kept ? kept : fallback_what(e);
    tell(p, GALEN_NOTICE_WARNING, text);
}

/* The rule for e: an error, or its action after it was said. */
static galen_status fall(placer *p, fall_event e, const char *cause, fall_action *action, galen_error *err) {
    const fall_decision d = fallback_decide(e, &p->policy);
    *action = d.action;
    if (d.action == FALL_ERROR) return galen_fail(err, d.code, 0, "%s: %.300s; %s", fallback_what(e), cause, fallback_remedy(e));
    if (d.is_loud) tell_fall(p, e, cause);
    if (!d.is_loud && e <= FALL_NO_DEVICE) tell(p, GALEN_NOTICE_DETAIL, cause);
    return GALEN_OK;
}

/* ---------------------------------------------------------------- opening a plan */

static void placement_close(placement *at) {
    if (!at) return;
    const devices *d = &at->devices;
    for (int32_t i = d->n - 1; i >= 0; i--)
        if (d->at[i].b) d->at[i].api->close(d->at[i].b);
    plan_free(at->plan);
    free(at);
}

static galen_status name_it(placer *p, placement *at, galen_error *err) {
    char text[600] = "", line[256];
    for (int32_t i = at->devices.n - 1; i >= 0; i--) {
        const device_part *d = &at->devices.at[i];
        const size_t n = strlen(text);
        (void)snprintf(text + n, sizeof text - n, "%s%s (%.200s)", n ? " + " : "", d->b == at->device ? "GPU" : "CPU",
                       d->api->describe(d->b));
    }
    (void)plan_line(at->plan, at->device_all, line, sizeof line);
    at->name = arena_strndup(&p->mem, text, strlen(text));
    at->line = arena_strndup(&p->mem, line, strlen(line));
    return at->name && at->line ? GALEN_OK : galen_fail(err, GALEN_E_NOMEM, 0, "the placement's name");
}

static galen_status open_part(placer *p, device_part *d, bool is_device, backend_config cfg, galen_error *err) {
    cfg.isa = p->opts.isa;
    cfg.n_threads = p->n_threads;
    if (is_device) {
        cfg.device = p->gpu.index;
        cfg.memory_limit = p->opts.vram_limit;
    }
    d->parts = cfg.parts;
    d->streamed = cfg.streamed;
    d->fetched = cfg.fetched;
    d->has_embed = cfg.has_embed;
    d->has_head = cfg.has_head;
    return d->api->open(&d->b, p->net, &cfg, err);
}

/* Takes the plan, also when it fails. *is_device: the GPU's part failed. */
static galen_status open_plan(placer *p, const backend_api *host, plan *pl, placement **out, bool *is_device, galen_error *err) {
    galen_status st = GALEN_OK;
    placement *at = calloc(1, sizeof *at);
    *is_device = false;
    *out = NULL;
    if (!at) {
        plan_free(pl);
        return galen_fail(err, GALEN_E_NOMEM, 0, "placement");
    }
    at->plan = pl;
    at->n_holders = 1;
    const bool has_device = plan_uses_device(pl), has_host = pl->n_whole < pl->n_layer || !pl->has_head;
    devices *d = &at->devices;
    d->net = p->net;
    d->stream_rows = pl->stream_rows;
    if (has_host) d->at[d->n++].api = host;
    if (has_device) d->at[d->n++].api = p->gpu.table->api;
    for (int32_t i = d->n - 1; !st && i >= 0; i--) { /* the GPU first: it fails more often */
        const bool is_gpu = has_device && i == d->n - 1;
        st = open_part(p, &d->at[i], is_gpu, is_gpu ? plan_device_config(pl) : plan_host_config(pl), err);
        if (st) *is_device = is_gpu;
        if (!st) *(is_gpu ? &at->device : &at->host) = d->at[i].b;
    }
    if (has_device) at->device_all = place_device_free(&p->gpu, &p->opts);
    if (!st) st = name_it(p, at, err);
    if (st)
        placement_close(at);
    else
        *out = at;
    return st;
}

/* ---------------------------------------------------------------- planning */

typedef struct want {
    work_limits limits;
    bool has_device;
    uint64_t most;   /* device bytes at most; 0 = what is free */
    bool has_fallen; /* it was said already why less is on the device */
} want;

static galen_status make_plan(placer *p, const backend_api *host, const want *w, plan **out, galen_error *err) {
    plan_request r = place_request(p->net, &p->opts, p->n_threads, &w->limits, &p->gpu);
    bool is_measured, has_fallen = w->has_fallen;
    fall_action action;
    galen_error why;
    r.host = host;
    if (!w->has_device) r.device = NULL;
    if (w->most && w->most < r.device_free) r.device_free = w->most;
    r.speeds = plan_typical_host(p->n_threads);
    if (r.device) plan_fill_device(&r.speeds, (double)p->gpu.info.read_peak, 0, 0);
    galen_status st = plan_make(out, &r, &why);
    const bool is_split = !st && r.device && (*out)->n_whole < (*out)->n_layer;
    if (is_split) { /* only a model that does not fit is worth a measurement */
        plan_free(*out);
        r.speeds = speeds_find(p->n_threads, p->gpu.table, p->gpu.index, p->opts.cache_dir, &is_measured);
        st = plan_make(out, &r, &why);
    }
    if (st == GALEN_E_NOMEM && r.device && r.gpu_layers != PLAN_AUTO && why.offset) {
        if ((st = fall(p, FALL_NO_FIT, why.msg, &action, err))) return st;
        has_fallen = true;
        r.gpu_layers = PLAN_AUTO;
        r.speeds = speeds_find(p->n_threads, p->gpu.table, p->gpu.index, p->opts.cache_dir, &is_measured);
        st = plan_make(out, &r, &why);
    }
    if (st) return galen_fail(err, why.code, 0, "%s", why.msg);
    const bool is_idle = r.device && r.gpu_layers != 0 && !plan_uses_device(*out);
    const bool is_said = has_fallen && fallback_decide(FALL_UNUSED, &p->policy).action != FALL_ERROR;
    if (is_idle && !is_said && (st = fall(p, FALL_UNUSED, (*out)->why, &action, err))) {
        plan_free(*out);
        *out = NULL;
    }
    return st;
}

static void refresh(placer *p) {
    device_info now;
    galen_error ignored;
    if (p->gpu.is_usable && p->gpu.table->info(p->gpu.index, &now, &ignored) == GALEN_OK && now.is_usable) p->gpu.info = now;
}

static bool may_fall(galen_status st) {
    return st == GALEN_E_NOMEM || st == GALEN_E_DEVICE || st == GALEN_E_UNSUPPORTED;
}

/* What a failure to open something on the device is. */
static fall_event event_of(galen_status st) {
    return st == GALEN_E_NOMEM ? FALL_LOAD_MEMORY : st == GALEN_E_UNSUPPORTED ? FALL_UNSUPPORTED : FALL_LOAD_DEVICE;
}

/* Plan and open; a failure of the GPU on the way is planned around once. */
static galen_status place(placer *p, const backend_api *host, want w, placement **out, galen_error *err) {
    galen_status st;
    for (;;) {
        plan *pl = NULL;
        bool is_device;
        fall_action action;
        galen_error why = {0};
        if ((st = make_plan(p, host, &w, &pl, err))) return st;
        const uint64_t peak = plan_peak(&pl->device);
        st = open_plan(p, host, pl, out, &is_device, &why);
        if (!st) return GALEN_OK;
        if (!is_device || !may_fall(st)) return galen_fail(err, st, why.offset, "%s", why.msg);
        if ((st = fall(p, event_of(st), why.msg, &action, err))) return st;
        p->policy.n_fallen++;
        w = (want){.limits = w.limits, .has_device = action == FALL_FEWER, .most = peak - peak / 8, .has_fallen = true};
        refresh(p);
    }
}

/* ---------------------------------------------------------------- lifetime */

static const char *copy_text(placer *p, const char *s, bool *is_bad) {
    char *c = s ? arena_strndup(&p->mem, s, strlen(s)) : NULL;
    if (s && !c) *is_bad = true;
    return c;
}

/* Which backend computes on the host, and whether a GPU is looked for. */
static galen_status choose_kind(placer *p, const backend_api **host, galen_error *err) {
    const char *name = p->opts.device ? p->opts.device : "auto";
    *host = backend_cpu();
    p->policy.is_required = p->opts.is_gpu_required;
    p->policy.is_strict = p->opts.is_strict;
    p->policy.is_named = strcmp(name, "cuda") == 0;
    p->policy.is_asked = p->opts.gpu_layers > 0 || p->opts.stream_layers > 0 || p->opts.main_gpu > 0;
    if (strcmp(name, "auto") == 0 || p->policy.is_named) return GALEN_OK;
    p->is_plain = true;
    *host = backend_find(name);
    if (!*host) return galen_fail(err, GALEN_E_ARG, 0, "device \"%.40s\" is not known; known: auto, cpu, cuda, ref", name);
    if (p->policy.is_required) return galen_fail(err, GALEN_E_ARG, 0, "device %s, and a GPU is required: one of the two", name);
    return GALEN_OK;
}

static galen_status find_gpu(placer *p, bool is_found, galen_error *err) {
    fall_action action;
    if (p->is_plain) return GALEN_OK;
    if (!is_found) found_gpu_open(&p->gpu, &p->opts);
    p->policy.is_gpu_here = p->gpu.n_visible > 0 || found_gpu_is_here();
    if (p->gpu.is_usable) return GALEN_OK;
    return fall(p, p->gpu.event, p->gpu.why.msg, &action, err);
}

galen_status placer_open(placer **out, const network *net, const galen_model_opts *o, gpu_search *search, galen_error *err) {
    galen_status st;
    const backend_api *host;
    want w = {0};
    bool is_bad = false;
    *out = NULL;
    placer *p = calloc(1, sizeof *p);
    if (!p) {
        found_gpu unused;
        gpu_search_end(search, &unused);
        found_gpu_close(&unused);
        return galen_fail(err, GALEN_E_NOMEM, 0, "placement");
    }
    const bool is_found = search != NULL;
    gpu_search_end(search, &p->gpu);
    (void)pthread_mutex_init(&p->lock, NULL);
    p->net = net;
    p->opts = *o;
    p->opts.device = copy_text(p, o->device, &is_bad);
    p->opts.isa = copy_text(p, o->isa, &is_bad);
    p->opts.kv_type = copy_text(p, o->kv_type, &is_bad);
    p->opts.cache_dir = copy_text(p, o->cache_dir, &is_bad);
    st = is_bad ? galen_fail(err, GALEN_E_NOMEM, 0, "placement") : GALEN_OK;
    if (!st) st = place_threads(o, &p->n_threads, err);
    if (!st) st = place_limits(net, o, &w.limits, err);
    if (!st) st = choose_kind(p, &host, err);
    if (!st) st = find_gpu(p, is_found, err);
    w.has_device = !st && p->gpu.is_usable;
    if (!st) st = place(p, host, w, &p->now, err);
    if (st)
        placer_close(p);
    else
        *out = p;
    return st;
}

void placer_close(placer *p) {
    if (!p) return;
    placement_close(p->now);
    found_gpu_close(&p->gpu);
    arena_free(&p->mem);
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
}

/* ---------------------------------------------------------------- holding and replacing */

placement *placer_hold(placer *p) {
    (void)pthread_mutex_lock(&p->lock);
    placement *at = p->now;
    if (at) at->n_holders++;
    (void)pthread_mutex_unlock(&p->lock);
    return at;
}

/* With the lock held. */
static void drop(placement *at) {
    if (at && --at->n_holders == 0) placement_close(at);
}

void placer_drop(placer *p, placement *at) {
    (void)pthread_mutex_lock(&p->lock);
    drop(at);
    (void)pthread_mutex_unlock(&p->lock);
}

/* With the lock held. */
static galen_status replace(placer *p, placement *failed, fall_event e, const galen_error *cause, const work_limits *limits,
                            galen_error *err) {
    fall_action action = FALL_ERROR;
    const galen_status st = plan_uses_device(failed->plan) ? fall(p, e, cause->msg, &action, err)
                                                           : galen_fail(err, cause->code, cause->offset, "%s", cause->msg);
    if (st) return st;
    const uint64_t peak = plan_peak(&failed->plan->device);
    const want w = {.limits = *limits, .has_device = action == FALL_FEWER, .most = peak - peak / 8, .has_fallen = true};
    p->policy.n_fallen++;
    p->now = NULL;
    drop(failed); /* the placer's hold: the memory goes with the last */
    refresh(p);
    const galen_status done = place(p, backend_cpu(), w, &p->now, err);
    if (p->now) tell(p, GALEN_NOTICE_PLACED, p->now->line);
    return done;
}

galen_status placer_replace(placer *p, placement *failed, fall_event e, const galen_error *cause, const work_limits *limits,
                            placement **out, galen_error *err) {
    galen_status st = GALEN_OK;
    *out = NULL;
    (void)pthread_mutex_lock(&p->lock);
    const bool is_first = p->now == failed;
    if (is_first)
        failed->n_holders--; /* the caller's; the placer's own remains */
    else
        drop(failed);
    if (is_first) st = replace(p, failed, e, cause, limits, err);
    if (!st && !p->now) st = galen_fail(err, cause->code, 0, "%s; there is no other placement", cause->msg);
    if (!st && p->now) {
        p->now->n_holders++;
        *out = p->now;
    }
    (void)pthread_mutex_unlock(&p->lock);
    return st;
}

/* ---------------------------------------------------------------- works on a placement */

bool placed_can_recover(const placed *w, galen_status cause) {
    return (cause == GALEN_E_DEVICE || cause == GALEN_E_NOMEM) && w->at && plan_uses_device(w->at->plan);
}

/* Give up the placement for another, and open the works there. */
static galen_status move_on(placed *w, fall_event e, const galen_error *cause, galen_error *err) {
    placement *const failed = w->at;
    works_close(w->works);
    w->works = NULL;
    w->at = NULL;
    galen_status st = placer_replace(w->placer, failed, e, cause, &w->limits, &w->at, err);
    if (!st) st = works_open(&w->works, &w->at->devices, &w->limits, err);
    if (st) placed_close(w);
    return st;
}

galen_status placed_open(placed *out, placer *p, const work_limits *limits, galen_error *err) {
    galen_error why = {0};
    *out = (placed){.placer = p, .limits = *limits, .at = placer_hold(p)};
    if (!out->at) {
        *out = (placed){0};
        return galen_fail(err, GALEN_E_DEVICE, 0, "the device failed and the model could not be placed anew; open it again");
    }
    const galen_status st = works_open(&out->works, &out->at->devices, limits, &why);
    if (!st) return GALEN_OK;
    if (may_fall(st) && plan_uses_device(out->at->plan)) return move_on(out, event_of(st), &why, err);
    placed_close(out);
    return galen_fail(err, st, why.offset, "%s", why.msg);
}

galen_status placed_recover(placed *w, const galen_error *cause, galen_error *err) {
    return move_on(w, FALL_STEP, cause, err);
}

void placed_close(placed *w) {
    works_close(w->works);
    if (w->at) placer_drop(w->placer, w->at);
    *w = (placed){0};
}

const char *placer_fell_back(placer *p) {
    (void)pthread_mutex_lock(&p->lock);
    const char *text = p->fell_back;
    (void)pthread_mutex_unlock(&p->lock);
    return text;
}

int32_t placer_threads(const placer *p) {
    return p->n_threads;
}
