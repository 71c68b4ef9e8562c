/* What of a model lives where: counted byte for byte before anything is loaded, chosen by the time it should take.
 *
 * Pure: a request in, a plan out; the bytes come from the backends' own counting functions, so what is planned is what is
 * taken. No device is touched. Host memory counts the mapped weights that the processor reads, its KV and its buffers. */
#ifndef GALEN_PLAN_PLAN_H
#define GALEN_PLAN_PLAN_H

#include "backend/backend.h"

/* Bytes and operations a second. Measured where the runtime could, else typical. */
typedef struct plan_speeds {
    double host_read;                  /* all threads together                    */
    double host_flops;                 /* of products of many rows                */
    double device_read, device_flops;  /* 0 = no device                           */
    double upload;                     /* from pinned host memory                 */
    double host_beside, upload_beside; /* the two while both are at work; 0 = not known: they share host_read  */
    double hop_s;                      /* seconds for a row to the device and back */
} plan_speeds;

enum { PLAN_AUTO = -1 };
#define PLAN_MARGIN ((uint64_t)256 << 20) /* device memory left alone: the driver's own, and what others take meanwhile */

typedef struct plan_request {
    const network *net;
    const backend_api *host, *device; /* device NULL = none. Only weight_bytes and work_bytes are called */
    int32_t n_threads;
    work_limits limits;
    int32_t gpu_layers;   /* PLAN_AUTO, or the last so many whole layers and the head; n_layer or more = all */
    bool is_kv_on_host;   /* attention and its KV stay on the host */
    int32_t n_fetched;    /* PLAN_AUTO, or how many of the host's feed-forwards the device fetches in every step, where it can */
    uint64_t device_free; /* bytes that may be taken, a limit of the user's counted in */
    uint64_t margin;      /* of them left alone by PLAN_AUTO */
    uint64_t host_free;   /* 0 = not known: not checked */
    plan_speeds speeds;
} plan_request;

typedef struct plan_use {
    uint64_t weights, kv, buffers; /* while it runs             */
    uint64_t loading;              /* beside the weights while they load */
} plan_use;

typedef struct plan {
    int32_t n_layer;
    uint8_t *parts;                 /* [n_layer] of PART_ on the device         */
    uint8_t *host_parts;            /* [n_layer] the rest                       */
    uint8_t *streamed;              /* [n_layer] of the rest, run on the device for large batches */
    uint8_t *fetched;               /* [n_layer] of streamed: feed-forwards, run on the device in every step */
    bool has_head;                  /* on the device */
    bool has_table;                 /* embeddings too: backend_config */
    int32_t n_attn, n_ffn, n_whole; /* layers on the device: their parts, and those with both */
    int32_t n_fetched;
    int32_t n_crossings; /* of hidden states in a decode step */
    int32_t stream_rows; /* 0 = nothing is streamed */
    plan_use host, device;
    double decode_s;  /* for one token, at half the context but at most 2048 */
    double prefill_s; /* for prefill_rows */
    int32_t prefill_rows;
    char why[256];
} plan;

/** Errors  NOMEM host or device cannot hold it: needed (also in err->offset) and free are named, and the nearest choices that
 * would fit; *out is NULL. */
galen_status plan_make(plan **out, const plan_request *r, galen_error *err);
void plan_free(plan *p); /* NULL is fine */

/** Seconds to expect for a prompt of so many tokens and an answer. r as the plan was made with. */
double plan_seconds(const plan *p, const plan_request *r, int32_t n_prompt, int32_t n_answer);
/** The most bytes at any time. UINT64_MAX when it overflows. */
uint64_t plan_peak(const plan_use *u);
uint64_t plan_total(const plan_use *u); /* while it runs */
bool plan_uses_device(const plan *p);
/** What the device's backend is opened with; parts point into p. */
backend_config plan_device_config(const plan *p);
backend_config plan_host_config(const plan *p);

/** "GPU 16/32 layers, 3.6 of 4.0 GiB; CPU 16, 8 feed-forwards streamed; KV on both". all is what the device had in all. Returns
 * buf. */
const char *plan_line(const plan *p, uint64_t all, char *buf, size_t cap);

/** Typical speeds of a host of so many threads, without a device. */
plan_speeds plan_typical_host(int32_t n_threads);
/** The device's part of *s from its memory's bandwidth; what is 0 in upload and hop_s is typical. */
void plan_fill_device(plan_speeds *s, double device_read, double upload, double hop_s);

/* ---------------------------------------------------------------- choices: what else could be asked */

typedef struct plan_choice {
    char what[64];   /* "context 2048"       */
    char option[48]; /* "--ctx 2048"; "" when it is another file */
    bool fits;
    plan *plan; /* NULL when it does not fit */
} plan_choice;

enum { PLAN_CHOICES = 9 };

/** The request with one thing changed at a time. Returns how many were filled; free each plan. NOMEM ends the list early. */
int32_t plan_choices(const plan_request *r, plan_choice out[PLAN_CHOICES]);

/* ---------------------------------------------------------------- cards that are not here */

typedef struct plan_card {
    const char *name, *title;
    int32_t compute;
    uint64_t total_bytes;
    double read, upload; /* bytes a second, from the maker's data sheet */
} plan_card;

/** By name; NULL when it is not known. */
const plan_card *plan_card_find(const char *name);
const plan_card *plan_card_at(size_t index); /* NULL past the end */

#endif
