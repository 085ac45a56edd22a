/* SPDX-License-Identifier: MIT-0 */
/*
 * multi - libcurl on the loop of a worker, by watches and one timer of the host
 *
 * Threads:   all of it on the worker that made it.
 * Ownership: an easy handle stays the caller's; it has to be removed, or have ended, before multi_free.
 * Bounded:   connections, kept alive or in use.
 */
#ifndef MULTI_H
#define MULTI_H

#include <curl/curl.h>
#include <grapnel/plugin.h>

struct multi; /* opaque: multi.c */

/* It has ended, and is removed already. arg: CURLOPT_PRIVATE of the easy handle. */
typedef void (*multi_done_fn)(void *arg, CURLcode result);

/* NULL: no memory. @threads worker_start. */
struct multi *multi_new(const struct grapnel_host *host, struct grapnel_instance *self, long connections, multi_done_fn done);
void multi_free(struct multi *m); /* NULL is fine. @threads worker_stop */
/* done never runs before it has returned. */
bool multi_add(struct multi *m, CURL *easy);
void multi_remove(struct multi *m, CURL *easy); /* done will not run */

#endif
