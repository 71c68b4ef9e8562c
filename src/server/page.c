/* Files of web/, from inside the program: a path is looked up in that table and nowhere else. The page may load from this server
 * alone and run no script that is not one of its files. */
#include <string.h>

#include "base/embed.h"
#include "server/api.h"
#include "server/inside.h"

static const char policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static const struct {
    const char *ending, *type;
} types[] = {
    {".html", "text/html; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".svg", "image/svg+xml"},
    {".json", "application/json"},
    {".png", "image/png"},
    {".ico", "image/x-icon"},
    {".woff2", "font/woff2"},
    {".webmanifest", "application/manifest+json"},
    {".txt", "text/plain; charset=utf-8"},
};

static const char *type_of(const char *name) {
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof types / sizeof types[0]; i++)
        if (strcmp(types[i].ending, dot) == 0) return types[i].type;
    return "application/octet-stream";
}

void page_file(exchange *x) {
    char name[PARAM_BYTES + 32];
    const char *folder = strcmp(x->route->path, "/assets/{id}") == 0 ? "web/assets/" : "web/";
    (void)snprintf(name, sizeof name, "%s%s", folder, x->param[0] ? x->param : "index.html");
    const embedded *e = embed_find(embedded_web, name);
    if (!e) {
        reply_error(x, HTTP_NO_ROUTE, NULL, NULL);
        return;
    }
    reply_static(x, 200, type_of(name), e->bytes, e->n);
    if (!x->reply) return;
    (void)MHD_add_response_header(x->reply, "Content-Security-Policy", policy);
    (void)MHD_add_response_header(x->reply, "Referrer-Policy", "no-referrer");
    (void)MHD_add_response_header(x->reply, "Cross-Origin-Opener-Policy", "same-origin");
    (void)MHD_add_response_header(x->reply, "X-Frame-Options", "DENY");
}
