#include "assist/calibration.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"

#define SCHEMA_VERSION 1

static const galen_calibration none = {.size = sizeof(galen_calibration), .temperature = 1, .name_weight = 0.5, .text_weight = 2};

galen_calibration galen_calibration_none(void) {
    return none;
}

galen_status calibration_path(const char *name, char *out, size_t cap, galen_error *err) {
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    int n;
    if (data && *data == '/')
        n = snprintf(out, cap, "%s/galen/calibration%s%s", data, name ? "/" : "", name ? name : "");
    else if (home && *home)
        n = snprintf(out, cap, "%s/.local/share/galen/calibration%s%s", home, name ? "/" : "", name ? name : "");
    else
        return galen_fail(err, GALEN_E_NOT_FOUND, 0, "neither XDG_DATA_HOME nor HOME is set: there is no data folder");
    if (n < 0 || (size_t)n >= cap)
        return galen_fail(err, GALEN_E_RANGE, 0, "the data folder's name is longer than %zu bytes", cap);
    return GALEN_OK;
}

bool galen_calibration_any(void) {
    char path[4096];
    bool is_any = false;
    if (calibration_path(NULL, path, sizeof path, NULL)) return false;
    DIR *d = opendir(path);
    for (const struct dirent *e; d && !is_any && (e = readdir(d));) {
        const size_t n = strlen(e->d_name);
        is_any = n == 69 && strcmp(e->d_name + 64, ".json") == 0;
    }
    if (d) (void)closedir(d);
    return is_any;
}

galen_status galen_model_sha256(const galen_model *m, char out[65], galen_error *err) {
    uint8_t hash[SHA256_BYTES];
    out[0] = '\0';
    const galen_status st = sha256_file(galen_model_get_info(m).path, NULL, NULL, hash, err);
    if (!st) sha256_hex(hash, out);
    return st;
}

static bool is_hash(const char *s) {
    return s && strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

/* ------------------------------------------------------------ reading */

static bool number(const json_t *root, const char *key, double least, double most, double *out) {
    const json_t *v = json_object_get(root, key);
    if (json_is_object(v)) v = json_object_get(v, "value");
    if (!json_is_number(v)) return false;
    *out = json_number_value(v);
    return isfinite(*out) && *out >= least && *out <= most;
}

galen_status calibration_parse(const char *bytes, size_t n, const char *name, galen_calibration *out, galen_error *err) {
    galen_calibration k = none;
    double n_cases, version;
    *out = none;
    json_t *root = json_loadb(bytes, n, JSON_REJECT_DUPLICATES, NULL);
    const json_t *held = json_object_get(root, "held_out");
    const char *sha = json_string_value(json_object_get(root, "model_sha256"));
    const char *prompts = json_string_value(json_object_get(root, "prompt_version"));
    const char *bad = !json_is_object(root)                                     ? "it is no JSON object"
                      : !number(root, "schema_version", 1, 1, &version)         ? "schema_version is not 1"
                      : !number(root, "temperature", 0.01, 100, &k.temperature) ? "temperature is not in 0.01 to 100"
                      : !number(root, "name_weight", 0, 1, &k.name_weight)      ? "name_weight is not in 0 to 1"
                      : !number(root, "text_weight", 0, 100, &k.text_weight)    ? "text_weight is not in 0 to 100"
                      : !number(root, "other_bias", -100, 100, &k.other_bias)   ? "other_bias is not in -100 to 100"
                      : !number(held, "n_cases", 1, 1e9, &n_cases)              ? "held_out.n_cases is not 1 or more"
                      : !number(held, "ece", 0, 1, &k.ece)                      ? "held_out.ece is not in 0 to 1"
                      : !number(held, "brier", 0, 1, &k.brier)                  ? "held_out.brier is not in 0 to 1"
                      : !number(held, "auroc", 0, 1, &k.auroc)                  ? "held_out.auroc is not in 0 to 1"
                      : !is_hash(sha)                                           ? "model_sha256 is no SHA-256"
                      : !prompts || strlen(prompts) >= sizeof k.prompt_version  ? "prompt_version is missing"
                                                                                : NULL;
    if (!bad) {
        k.n_cases = (int32_t)n_cases;
        (void)snprintf(k.model_sha256, sizeof k.model_sha256, "%s", sha);
        (void)snprintf(k.prompt_version, sizeof k.prompt_version, "%s", prompts);
        *out = k;
    }
    json_decref(root);
    return bad ? galen_fail(err, GALEN_E_FORMAT, 0, "%.200s: %s", name, bad) : GALEN_OK;
}

galen_status galen_calibration_find(const char *model_sha256, galen_calibration *out, galen_error *err) {
    char name[80], path[4096];
    file_map f = {0};
    *out = none;
    if (!is_hash(model_sha256)) return galen_fail(err, GALEN_E_ARG, 0, "the model's SHA-256 is not 64 hexadecimal digits");
    (void)snprintf(name, sizeof name, "%s.json", model_sha256);
    galen_status st = calibration_path(name, path, sizeof path, err);
    if (!st) st = file_map_open(&f, path, err);
    if (st) return st;
    st = calibration_parse(f.n ? f.bytes : "", f.n, path, out, err);
    file_map_close(&f);
    if (!st && strcmp(out->model_sha256, model_sha256) != 0) {
        *out = none;
        st = galen_fail(err, GALEN_E_FORMAT, 0, "%.200s: it is of another model", path);
    }
    return st;
}

/* ------------------------------------------------------------ writing */

static int set_interval(json_t *root, const char *key, const fit_interval *i) {
    return json_object_set_new(root, key, json_pack("{s:f, s:f, s:f}", "value", i->value, "low", i->low, "high", i->high));
}

json_t *calibration_report(const fit_report *r) {
    json_t *root = json_object();
    int bad = set_interval(root, "ece", &r->ece);
    bad |= set_interval(root, "brier", &r->brier);
    bad |= set_interval(root, "auroc", &r->auroc);
    bad |= set_interval(root, "top1", &r->top1);
    bad |= set_interval(root, "top5", &r->top5);
    if (!bad) return root;
    json_decref(root);
    return NULL;
}

json_t *calibration_json(const galen_calibration *k, const fit_report *held_out, const fit_report *raw, int32_t n_fit,
                         const char *model_name, const char *cases_sha256) {
    json_t *held = calibration_report(held_out);
    if (json_object_set_new(held, "n_cases", json_integer(k->n_cases))) {
        json_decref(held);
        held = NULL;
    }
    return json_pack("{s:i, s:s, s:s*, s:s, s:f, s:f, s:f, s:f, s:i, s:s, s:o, s:o}", "schema_version", SCHEMA_VERSION,
                     "model_sha256", k->model_sha256, "model_name", model_name, "prompt_version", k->prompt_version,
                     "temperature", k->temperature, "name_weight", k->name_weight, "text_weight", k->text_weight, "other_bias",
                     k->other_bias, "n_fit", n_fit, "cases_sha256", cases_sha256, "held_out", held, "held_out_uncalibrated",
                     calibration_report(raw));
}

/* Make the folders of path. */
static galen_status make_folders(const char *path, galen_error *err) {
    char part[4096];
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        (void)snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        if (mkdir(part, 0700) && errno != EEXIST)
            return galen_fail(err, GALEN_E_IO, 0, "%.200s: cannot be made: %s", part, strerror(errno));
    }
    return GALEN_OK;
}

static bool write_all(int fd, const char *bytes, size_t n) {
    while (n) {
        const ssize_t k = write(fd, bytes, n);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return false;
        bytes += k;
        n -= (size_t)k;
    }
    return fsync(fd) == 0;
}

galen_status calibration_write(const char *path, const char *bytes, size_t n, galen_error *err) {
    char beside[4200];
    galen_status st = make_folders(path, err);
    if (st) return st;
    (void)snprintf(beside, sizeof beside, "%s.%ld", path, (long)getpid());
    const int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return galen_fail(err, GALEN_E_IO, 0, "%.200s: cannot be written: %s", path, strerror(errno));
    const bool is_written = write_all(fd, bytes, n);
    const int why = errno;
    if (close(fd) == 0 && is_written && rename(beside, path) == 0) return GALEN_OK;
    st = galen_fail(err, GALEN_E_IO, 0, "%.200s: cannot be written: %s", path, strerror(is_written ? errno : why));
    (void)unlink(beside);
    return st;
}
