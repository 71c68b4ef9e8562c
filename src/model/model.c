/* Opening a model: which architecture, its shapes, its tensors. */
#include "model/model.h"

#include <stdlib.h>

#include "model/hparams.h"

struct model {
    arena mem;
    const arch *arch;
    network net;
};

static bool fetch(const void *source, const void *from, void *to, size_t n) {
    return gguf_fetch(source, from, to, n);
}

galen_status model_open(model **out, const gguf *g, int32_t n_vocab, galen_error *err) {
    galen_status st;
    gguf_str name;
    *out = NULL;
    if ((st = gguf_get_str(g, "general.architecture", GGUF_REQUIRED, &name, err))) return st;
    const arch *a = arch_by_name(name.p, name.n);
    if (!a)
        return galen_fail(err, GALEN_E_UNSUPPORTED, gguf_find(g, "general.architecture")->offset,
                          "architecture \"%.*s\" is not known; known: %s", (int)(name.n > 40 ? 40 : name.n), name.p,
                          arch_choices());
    model *m = calloc(1, sizeof *m);
    if (!m) return galen_fail(err, GALEN_E_NOMEM, 0, "model");
    m->arch = a;
    if ((st = hparams_read(&m->net, a, g, n_vocab, &m->mem, err))) goto fail;
    if ((st = tensors_bind(&m->net, a, g, &m->mem, err))) goto fail;
    m->net.fetch = fetch;
    m->net.source = g;
    *out = m;
    return GALEN_OK;
fail:
    model_close(m);
    return st;
}

void model_close(model *m) {
    if (!m) return;
    arena_free(&m->mem);
    free(m);
}

const network *model_network(const model *m) {
    return &m->net;
}

const char *model_arch(const model *m) {
    return m->arch->name;
}
