/* GET /openapi.json: docs/openapi.json, from inside the program. */
#include "server/api.h"
#include "base/embed.h"

void api_openapi(exchange *x) {
    const embedded *e = embed_find(embedded_web, "docs/openapi.json");
    if (e)
        reply_static(x, 200, "application/json", e->bytes, e->n);
    else
        reply_error(x, HTTP_NO_ROUTE, NULL, NULL);
}
