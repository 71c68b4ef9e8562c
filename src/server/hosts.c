#include "server/hosts.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define NAME_BYTES 256

static bool is_port(const char *p) {
    size_t n = 0;
    while (p[n] >= '0' && p[n] <= '9') n++;
    return n >= 1 && n <= 5 && p[n] == '\0';
}

/* "name:80" to "name", "[::1]:80" to "::1". False: not a host and perhaps a port. */
static bool split_port(const char *host, char name[NAME_BYTES], bool *is_bracketed) {
    const char *end;
    *is_bracketed = host[0] == '[';
    if (*is_bracketed) {
        host++;
        end = strchr(host, ']');
        if (!end || (end[1] && (end[1] != ':' || !is_port(end + 2)))) return false;
    } else {
        end = strchr(host, ':');
        if (!end) end = host + strlen(host);
        if (*end && !is_port(end + 1)) return false;
    }
    const size_t n = (size_t)(end - host);
    if (n == 0 || n >= NAME_BYTES) return false;
    memcpy(name, host, n);
    name[n] = '\0';
    return true;
}

static bool is_address(const char *name, bool is_v6) {
    unsigned char out[sizeof(struct in6_addr)];
    return inet_pton(is_v6 ? AF_INET6 : AF_INET, name, out) == 1;
}

bool host_is_allowed(const host_rules *r, const char *host) {
    char name[NAME_BYTES];
    bool is_bracketed;
    if (!split_port(host, name, &is_bracketed)) return false;
    if (is_address(name, is_bracketed)) return true;
    if (is_bracketed) return false;
    if (strcasecmp(name, "localhost") == 0) return true;
    for (size_t i = 0; i < r->n_hosts; i++)
        if (strcasecmp(r->hosts[i], name) == 0) return true;
    return false;
}

bool origin_is_allowed(const host_rules *r, const char *origin, const char *host, bool is_tls) {
    const char *scheme = is_tls ? "https://" : "http://";
    const size_t n = strlen(scheme);
    if (host && strncasecmp(origin, scheme, n) == 0 && strcasecmp(origin + n, host) == 0) return true;
    for (size_t i = 0; i < r->n_origins; i++)
        if (strcasecmp(r->origins[i], origin) == 0) return true;
    return false;
}

bool host_is_loopback(const char *host) {
    struct in_addr v4;
    struct in6_addr v6;
    if (strcmp(host, "localhost") == 0) return true;
    if (inet_pton(AF_INET, host, &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}
