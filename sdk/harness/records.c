/* SPDX-License-Identifier: Apache-2.0 */
/* What the plugin did to the broker, kept for the script's expectations. Any thread. */
#include "inside.h"
#include <stdlib.h>
#include <string.h>

struct record *
record_new(enum record_kind kind, const char *text, size_t len)
{
	struct record *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->kind = kind;
	r->text = copy_text(text, len);
	if (r->text == NULL) {
		free(r);
		return NULL;
	}
	return r;
}

void
record_add(harness *h, struct record *r)
{
	struct record **at;

	pthread_mutex_lock(&h->lock);
	for (at = &h->records; *at != NULL; at = &(*at)->next)
		continue;
	*at = r;
	pthread_mutex_unlock(&h->lock);
	wake(h);
}

void
record_free(struct record *r)
{
	free(r->text);
	free((void *)(uintptr_t)r->more.data);
	free(r->properties);
	free(r);
}

struct record *
record_next(harness *h, const struct record *r)
{
	struct record *next;

	pthread_mutex_lock(&h->lock);
	next = r != NULL ? r->next : h->records;
	pthread_mutex_unlock(&h->lock);
	return next;
}

void
records_free(harness *h)
{
	struct record *r;

	while ((r = h->records) != NULL) {
		h->records = r->next;
		record_free(r);
	}
}
