/* The same request with one thing changed: another context, another KV type, fewer layers, the same model in fewer bits. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "plan/plan_impl.h"

/* The network as a Q4_K_M file would hold it: matrices of whole blocks in Q4_K, the head and a third of the rest in Q6_K. Only
 * types and sizes are changed; no weight is read. */
typedef struct lean {
    network net;
    network_layer *layers;
} lean;

static bool retype(tensor *t, tensor_type type) {
    if (!t->data || t->n_in % 256 != 0 || t->row_bytes <= tensor_row_bytes(type, t->n_in)) return false;
    t->type = type;
    t->row_bytes = tensor_row_bytes(type, t->n_in);
    return true;
}

static bool lean_open(lean *l, const network *net) {
    bool is_smaller = false;
    *l = (lean){.net = *net};
    l->layers = calloc(net->n_layer > 0 ? (size_t)net->n_layer : 1, sizeof *l->layers);
    if (!l->layers) return false;
    l->net.layers = l->layers;
    for (int32_t i = 0; i < net->n_layer; i++) {
        network_layer *to = &l->layers[i];
        *to = net->layers[i];
        static const struct {
            size_t field;
            bool is_finer; /* every second layer's in Q6_K */
        } matrices[] = {{offsetof(network_layer, wq), false},   {offsetof(network_layer, wk), false},
                        {offsetof(network_layer, wo), false},   {offsetof(network_layer, w_gate), false},
                        {offsetof(network_layer, w_up), false}, {offsetof(network_layer, wv), true},
                        {offsetof(network_layer, w_down), true}};
        for (size_t j = 0; j < sizeof matrices / sizeof matrices[0]; j++) {
            tensor *t = (tensor *)(void *)((char *)to + matrices[j].field);
            is_smaller |= retype(t, matrices[j].is_finer && i % 2 == 0 ? TENSOR_Q6_K : TENSOR_Q4_K);
        }
    }
    const bool is_tied = net->head.data == net->embd.data;
    is_smaller |= retype(&l->net.embd, is_tied ? TENSOR_Q6_K : TENSOR_Q4_K);
    is_smaller |= retype(&l->net.head, TENSOR_Q6_K);
    return is_smaller;
}

typedef struct list {
    plan_choice *at;
    int32_t n;
    bool is_full; /* memory is out */
} list;

static void add(list *l, const plan_request *r, const char *what, const char *option) {
    galen_error why;
    if (l->n == PLAN_CHOICES || l->is_full) return;
    plan_choice *c = &l->at[l->n];
    *c = (plan_choice){0};
    (void)snprintf(c->what, sizeof c->what, "%s", what);
    (void)snprintf(c->option, sizeof c->option, "%s", option);
    (void)plan_choose(&c->plan, r, &why);
    c->fits = c->plan != NULL;
    l->n++;
}

static void add_context(list *l, const plan_request *r, int64_t wanted) {
    plan_request q = *r;
    char what[64], option[48];
    if (wanted < KV_PAGE || wanted > r->net->n_ctx_train || r->limits.n_ctx <= 0) return;
    const int32_t n_ctx = (int32_t)wanted;
    const int64_t pages = ((int64_t)r->limits.n_pages * n_ctx + r->limits.n_ctx - 1) / r->limits.n_ctx;
    q.limits.n_ctx = n_ctx;
    q.limits.n_pages = (int32_t)pages;
    if (q.limits.max_rows > n_ctx) q.limits.max_rows = n_ctx;
    (void)snprintf(what, sizeof what, "context %d", n_ctx);
    (void)snprintf(option, sizeof option, "--ctx %d", n_ctx);
    add(l, &q, what, option);
}

/* The most layers below those asked for that fit; or, where they leave no room to stream the others, the most that do, when that
 * is quicker. 0: none. */
static int32_t best_fewer(const plan_request *r) {
    plan_request q = *r;
    int32_t best = 0;
    double least = 0;
    bool is_over = false;
    for (int32_t n = (r->gpu_layers < r->net->n_layer ? r->gpu_layers : r->net->n_layer) - 1; n > 0 && !is_over; n--) {
        plan *p = NULL;
        galen_error why;
        q.gpu_layers = n;
        if (plan_choose(&p, &q, &why)) continue;
        const double score = plan_score(p, &q);
        is_over = p->stream_rows || (best && n < best / 2);
        if (best == 0 || (p->stream_rows && score < least)) {
            best = n;
            least = score;
        }
        plan_free(p);
    }
    return best;
}

static void add_layers(list *l, const plan_request *r) {
    plan_request q = *r;
    char what[64], option[48];
    if (r->gpu_layers == PLAN_AUTO || !r->device) return;
    if (r->gpu_layers > 1 && (q.gpu_layers = best_fewer(r)) > 0) {
        (void)snprintf(what, sizeof what, "%d layers on the GPU", q.gpu_layers);
        (void)snprintf(option, sizeof option, "--gpu-layers %d", q.gpu_layers);
        add(l, &q, what, option);
    }
    q.gpu_layers = PLAN_AUTO;
    add(l, &q, "as many layers as fit", "--gpu-layers auto");
    q.device = NULL;
    add(l, &q, "the processor alone", "--device cpu");
}

static void add_lean(list *l, const plan_request *r) {
    plan_request q = *r;
    lean small;
    const bool is_smaller = lean_open(&small, r->net);
    q.net = &small.net;
    if (is_smaller) add(l, &q, "a Q4_K_M file of this model", "");
    free(small.layers);
}

int32_t plan_choices(const plan_request *r, plan_choice out[PLAN_CHOICES]) {
    list l = {.at = out};
    plan_request q = *r;
    add_layers(&l, r);
    add_context(&l, r, (int64_t)r->limits.n_ctx * 2);
    add_context(&l, r, r->limits.n_ctx / 2);
    add_context(&l, r, r->limits.n_ctx / 4);
    if (r->limits.kv != KV_Q8_0 && r->net->d_head % 32 == 0) {
        q.limits.kv = KV_Q8_0;
        add(&l, &q, "KV type q8_0", "--kv-type q8_0");
    }
    if (!r->is_kv_on_host && r->device) {
        q = *r;
        q.is_kv_on_host = true;
        add(&l, &q, "KV on the host", "--no-kv-offload");
    }
    add_lean(&l, r);
    return l.n;
}

/* "; would fit: --ctx 1024, --kv-type q8_0" */
static void append_choices(const plan_request *r, galen_error *err) {
    plan_choice c[PLAN_CHOICES];
    const int32_t n = plan_choices(r, c);
    int32_t n_named = 0;
    for (int32_t i = 0; i < n; i++) {
        const size_t at = strlen(err->msg);
        if (c[i].fits && n_named < 3)
            (void)snprintf(err->msg + at, sizeof err->msg - at, "%s%s",
                           n_named++ ? ", " : "; these would fit: ", c[i].option[0] ? c[i].option : c[i].what);
        plan_free(c[i].plan);
    }
    if (n_named == 0) {
        const size_t at = strlen(err->msg);
        (void)snprintf(err->msg + at, sizeof err->msg - at, "; a smaller model is needed");
    }
}

galen_status plan_make(plan **out, const plan_request *r, galen_error *err) {
    galen_error own = {0};
    const galen_status st = plan_choose(out, r, &own);
    if (st == GALEN_E_NOMEM && own.offset) append_choices(r, &own);
    if (st && err) *err = own;
    return st;
}
