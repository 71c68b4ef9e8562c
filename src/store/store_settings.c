/* Settings: a row where one differs from its default. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_impl.h"

enum { MOST_DAYS = 36500 };

static const struct {
    const char *name, *value;
} settings[] = {
#define X(name, value, meaning) {name, value},
    STORE_SETTINGS(X)
#undef X
};

static const char *default_of(const char *name) {
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        if (strcmp(settings[i].name, name) == 0) return settings[i].value;
    }
    return NULL;
}

galen_status store_setting_get(store *s, const char *name, char *value, size_t cap, galen_error *err) {
    db_rows r;
    bool has = false;
    const char *text = default_of(name);
    if (!text) return galen_fail(err, GALEN_E_NOT_FOUND, 0, "there is no setting '%.32s'", name);
    galen_status st = db_query(&r, s, err, "SELECT value FROM settings WHERE name = ?", "t", name);
    if (!st) st = db_next(&r, &has, err);
    if (!st) {
        if (has) text = db_text(&r, 0, NULL);
        const int n = snprintf(value, cap, "%s", text);
        if (n < 0 || (size_t)n >= cap) st = galen_fail(err, GALEN_E_RANGE, 0, "the setting '%s' has %d bytes", name, n);
    }
    db_end(&r);
    return st;
}

/* Every setting is a switch or a number of days. */
static galen_status check_value(const char *name, const char *value, galen_error *err) {
    const size_t n = strlen(value);
    if (strcmp(name, "save") == 0) {
        if (strcmp(value, "on") == 0 || strcmp(value, "off") == 0) return GALEN_OK;
        return galen_fail(err, GALEN_E_ARG, 0, "save: expected on or off");
    }
    if (n >= 1 && n <= 5 && strspn(value, "0123456789") == n && strtol(value, NULL, 10) <= MOST_DAYS) return GALEN_OK;
    return galen_fail(err, GALEN_E_ARG, 0, "%s: expected a number of days, 0 to %d", name, MOST_DAYS);
}

galen_status store_setting_set(store *s, const char *name, const char *value, galen_error *err) {
    if (!default_of(name)) return galen_fail(err, GALEN_E_NOT_FOUND, 0, "there is no setting '%.32s'", name);
    const galen_status st = check_value(name, value, err);
    return st ? st : db_run(s, err, "INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", "tt", name, value);
}
