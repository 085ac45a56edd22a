/* SPDX-License-Identifier: Apache-2.0 */
#include "reply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if HIREDIS_MAJOR >= 1
typedef size_t element_count;
#else
typedef int element_count;
#endif

#define MAX_LINE 4096u /* of a status, an error or a header */

struct reply_reader {
	redisReader *reader;
	redisReplyObjectFunctions functions; /* hiredis's, but for two of them */
	const redisReplyObjectFunctions *hiredis;
	size_t max_bytes, max_elements;
	size_t bytes, elements; /* of the reply that is being read */
	char error[160];
};

static void
refuse(struct reply_reader *r, const char *what, size_t limit)
{
	snprintf(
	    r->error, sizeof(r->error), "an answer of more than %zu %s (max_answer)", limit, what);
}

static void *
create_string(const redisReadTask *task, char *text, size_t len)
{
	struct reply_reader *r = task->privdata;

	if (len > r->max_bytes - r->bytes) {
		refuse(r, "bytes", r->max_bytes);
		return NULL;
	}
	r->bytes += len;
	return r->hiredis->createString(task, text, len);
}

static void *
create_array(const redisReadTask *task, element_count count)
{
	struct reply_reader *r = task->privdata;

	if ((size_t)count > r->max_elements - r->elements) {
		refuse(r, "elements", r->max_elements);
		return NULL;
	}
	r->elements += (size_t)count;
	return r->hiredis->createArray(task, count);
}

struct reply_reader *
reply_reader_new(size_t max_bytes, size_t max_elements)
{
	struct reply_reader *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	if ((r->reader = redisReaderCreate()) == NULL) {
		free(r);
		return NULL;
	}
	r->max_bytes = max_bytes;
	r->max_elements = max_elements;
	r->hiredis = r->reader->fn;
	r->functions = *r->reader->fn;
	r->functions.createString = create_string;
	r->functions.createArray = create_array;
	r->reader->fn = &r->functions;
	r->reader->privdata = r;
	return r;
}

void
reply_reader_free(struct reply_reader *r)
{
	if (r == NULL)
		return;
	redisReaderFree(r->reader);
	free(r);
}

static void
keep_error(struct reply_reader *r)
{
	if (r->error[0] == '\0')
		snprintf(r->error, sizeof(r->error), "a malformed answer (%s)", r->reader->errstr);
}

bool
reply_feed(struct reply_reader *r, const char *data, size_t len)
{
	if (redisReaderFeed(r->reader, data, len) == REDIS_OK)
		return true;
	keep_error(r);
	return false;
}

/*
 * What has begun stays in hiredis's buffer until it is whole. A line is searched for its end from its beginning each time:
 * a long one would take ever more of it.
 */
static bool
has_bounds(struct reply_reader *r)
{
	const redisReader *reader = r->reader;
	size_t left = reader->len - reader->pos;

	if (left > r->max_bytes + MAX_LINE) {
		refuse(r, "bytes", r->max_bytes);
		return false;
	}
	if (left <= MAX_LINE || memchr(reader->buf + reader->pos, '\n', MAX_LINE) != NULL)
		return true;
	snprintf(r->error, sizeof(r->error), "a malformed answer (a line without an end)");
	return false;
}

int
reply_next(struct reply_reader *r, redisReply **out)
{
	void *reply = NULL;

	if (redisReaderGetReply(r->reader, &reply) != REDIS_OK) {
		keep_error(r);
		return -1;
	}
	if (reply != NULL) {
		r->bytes = r->elements = 0;
		*out = reply;
		return 1;
	}
	return has_bounds(r) ? 0 : -1;
}

const char *
reply_error(const struct reply_reader *r)
{
	return r->error;
}

static void
wipe(redisReply *reply)
{
	if (reply == NULL)
		return;
	if (reply->type == REDIS_REPLY_STRING && reply->str != NULL)
		explicit_bzero(reply->str, reply->len);
	if (reply->type != REDIS_REPLY_ARRAY)
		return;
	for (size_t i = 0; i < reply->elements; i++)
		wipe(reply->element[i]);
}

void
reply_free(redisReply *reply)
{
	wipe(reply);
	freeReplyObject(reply);
}

struct grapnel_str
reply_text(const redisReply *reply)
{
	if (reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_STATUS)
		return (struct grapnel_str){ NULL, 0 };
	return (struct grapnel_str){ reply->str, reply->len };
}

bool
reply_is_ok(const redisReply *reply)
{
	return reply->type == REDIS_REPLY_STATUS;
}

bool
reply_is_error(const redisReply *reply, const char *word)
{
	size_t len = strlen(word);

	return reply->type == REDIS_REPLY_ERROR && reply->len >= len &&
	    memcmp(reply->str, word, len) == 0 && (reply->len == len || reply->str[len] == ' ');
}

bool
reply_is_texts(const redisReply *reply)
{
	if (reply->type != REDIS_REPLY_ARRAY)
		return false;
	for (size_t i = 0; i < reply->elements; i++)
		if (reply->element[i] == NULL || reply->element[i]->type != REDIS_REPLY_STRING)
			return false;
	return true;
}
