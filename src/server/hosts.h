/* Which names this server answers to and which pages may call it: against DNS rebinding and foreign pages. */
#ifndef GALEN_SERVER_HOSTS_H
#define GALEN_SERVER_HOSTS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct host_rules {
    const char *const *hosts;
    size_t n_hosts;
    const char *const *origins;
    size_t n_origins;
} host_rules;

/** A Host header: an IP address, localhost, or one of the names allowed; any port. A rebinding attack needs a name. */
bool host_is_allowed(const host_rules *r, const char *host);
/** An Origin header: the page came from this server itself (same Host), or from an origin allowed. "null" never is. */
bool origin_is_allowed(const host_rules *r, const char *origin, const char *host, bool is_tls);
/** An address of this machine alone. */
bool host_is_loopback(const char *host);

#endif
