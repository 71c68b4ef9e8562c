/* The endpoints, and what those of OpenAI share. */
#ifndef GALEN_SERVER_API_H
#define GALEN_SERVER_API_H

#include "server/gen.h"

void api_completions(exchange *x);
void api_chat(exchange *x);
void api_embeddings(exchange *x);
void api_decisions(exchange *x);
void api_tokenize(exchange *x);
void api_detokenize(exchange *x);
void api_models(exchange *x);
void api_model(exchange *x);
void api_openapi(exchange *x);
void probe_live(exchange *x);
void probe_ready(exchange *x);
void probe_health(exchange *x);
void probe_metrics(exchange *x);
void page_file(exchange *x);
void cases_list(exchange *x);
void cases_search(exchange *x);
void cases_create(exchange *x);
void cases_show(exchange *x);
void cases_answer(exchange *x);
void cases_close_case(exchange *x);
void cases_audit(exchange *x);
void api_status(exchange *x);
void cases_export(exchange *x);
void cases_erase(exchange *x);

const char *api_fingerprint(void);
/** The prompt fits the context. False: answered with both counts. */
bool api_check_length(gen *g);
/** The model of that name, NULL the first, to be given back. NULL: answered, or x will be run again. */
book *api_take_model(exchange *x, const char *name);

#endif
