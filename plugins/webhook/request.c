/* SPDX-License-Identifier: Apache-2.0 */
/* request - what is sent: bodies, headers, signatures (https://www.standardwebhooks.com) */
#include "parts.h"

#include "common/base64.h"
#include "common/read_file.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_MAX     (16u << 10)
#define TOKEN_LOOK_MS 1000u
#define BODY_FIRST    4096u

/* ---- headers --------------------------------------------------------------------------------- */

static void
header_begin(struct request *r, const char *name)
{
	text_puts(&r->head, name);
	text_puts(&r->head, ": ");
	r->header_count++;
}

static void
header_end(struct request *r)
{
	text_char(&r->head, '\0');
}

/* "v1,BASE64" of "id.time.body" */
static bool
sign(struct request *r, const struct signing_key *key, const char *stamp, size_t stamp_len)
{
	unsigned char mac[EVP_MAX_MD_SIZE];
	char text[BASE64_SIZE(EVP_MAX_MD_SIZE)];
	size_t len = 0;
	EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX *ctx = hmac != NULL ? EVP_MAC_CTX_new(hmac) : NULL;
	char digest[] = "SHA256";
	OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string("digest", digest, 0),
		OSSL_PARAM_construct_end() };
	bool good = ctx != NULL && EVP_MAC_init(ctx, key->secret, key->len, params) == 1 &&
	    EVP_MAC_update(ctx, (const unsigned char *)stamp, stamp_len) == 1 &&
	    EVP_MAC_update(ctx, (const unsigned char *)r->body.data, r->body.len) == 1 &&
	    EVP_MAC_final(ctx, mac, &len, sizeof(mac)) == 1;

	EVP_MAC_CTX_free(ctx);
	EVP_MAC_free(hmac);
	if (!good)
		return false;
	base64_encode(text, mac, len, true);
	text_puts(&r->head, "v1,");
	text_puts(&r->head, text);
	return true;
}

static bool
put_signatures(struct endpoint *e, struct request *r, const char *id)
{
	char stamp[EVENT_ID_SIZE + 64];
	long long now = (long long)(e->w->host->wall_us() / 1000000);
	int len = snprintf(stamp, sizeof(stamp), "%s.%lld.", id, now);

	header_begin(r, "webhook-id");
	text_puts(&r->head, id);
	header_end(r);
	header_begin(r, "webhook-timestamp");
	text_int(&r->head, now);
	header_end(r);
	if (e->key_count == 0)
		return true;
	header_begin(r, "webhook-signature");
	for (unsigned i = 0; i < e->key_count; i++) {
		if (i > 0)
			text_char(&r->head, ' ');
		if (!sign(r, &e->keys[i], stamp, (size_t)len))
			return false;
	}
	header_end(r);
	header_begin(r, "webhook-key-id");
	for (unsigned i = 0; i < e->key_count; i++) {
		if (i > 0)
			text_char(&r->head, ' ');
		text_puts(&r->head, e->keys[i].id);
	}
	header_end(r);
	return true;
}

static void
token_free(char *token)
{
	if (token != NULL)
		explicit_bzero(token, strlen(token));
	free(token);
}

/* Up to the first byte that cannot be of one. */
size_t
request_token_length(const struct file_text *file)
{
	size_t len = 0;

	while (len < file->len && file->data[len] > ' ' && file->data[len] < 0x7f)
		len++;
	return len;
}

/* The file may be renewed at any time. One that cannot be read leaves the token that was there. */
static void
look_at_token(struct endpoint *e)
{
	struct webhook *w = e->w;
	uint64_t now = w->host->now_ms();
	struct file_text file;
	char error[512], *token;
	size_t len;

	if (e->token_file == NULL || now < e->token_ms)
		return;
	e->token_ms = now + TOKEN_LOOK_MS;
	if (!read_file(e->token_file, TOKEN_MAX, &file, error, sizeof(error))) {
		w->host->log(w->self, GRAPNEL_LOG_ERROR, "endpoint \"%s\": bearer_token_file: %s",
		    e->name, error);
		return;
	}
	len = request_token_length(&file);
	if (len == 0 && e->token == NULL)
		w->host->log(w->self, GRAPNEL_LOG_ERROR,
		    "endpoint \"%s\": bearer_token_file: %s does not begin with a token; events "
		    "wait "
		    "until it does",
		    e->name, e->token_file);
	token = len > 0 ? malloc(len + 1) : NULL; /* empty: it is just being written */
	if (token != NULL) {
		memcpy(token, file.data, len);
		token[len] = '\0';
		token_free(e->token);
		e->token = token;
	}
	file_text_free(&file);
}

static bool
put_headers(struct endpoint *e, struct request *r, const struct record_view *first, uint32_t count)
{
	char id[EVENT_ID_SIZE + 16];
	unsigned shared;

	event_id_text(id, &first->event.id);
	if (count > 1)
		(void)snprintf(id + EVENT_ID_SIZE - 1, 16, "-%u", (unsigned)count);
	if (!put_signatures(e, r, id))
		return false;
	if (e->format.kind == FORMAT_BINARY || e->format.kind == FORMAT_VERNEMQ)
		r->header_count += format_headers(&r->head, first, &e->format);
	shared = r->header_count;
	if (e->headers != NULL)
		r->header_count += header_templates_put(&r->head, e->headers, first);
	look_at_token(e);
	if (e->token_file != NULL && e->token == NULL)
		return false; /* without it the events would be refused */
	if (e->token != NULL) {
		header_begin(r, "Authorization");
		text_puts(&r->head, "Bearer ");
		text_puts(&r->head, e->token);
		header_end(r);
	}
	r->own_headers = r->header_count - shared;
	return !r->head.failed;
}

/* ---- bodies ---------------------------------------------------------------------------------- */

static void
put_event(struct endpoint *e, struct text *out, const struct record_view *v)
{
	if (e->format.kind == FORMAT_TEMPLATE)
		body_template_put(out, e->body, v);
	else
		format_event(out, v, &e->format);
}

static bool
end(struct endpoint *e, struct request *r, const struct record_view *first)
{
	r->content_type = e->format.kind == FORMAT_TEMPLATE
	    ? e->content_type
	    : format_content_type(e->format.kind, e->mode == MODE_BATCH);
	if (!r->body.failed && put_headers(e, r, first, r->events))
		return true;
	request_free(r);
	return false;
}

bool
request_make(struct lane *l, uint32_t most, struct request *r)
{
	struct endpoint *e = l->e;
	struct record_view v[2];
	struct item *it;

	*r = (struct request){ 0 };
	if (e->mode == MODE_BATCH)
		text_char(&r->body, '[');
	for (it = l->first; it != NULL && r->events < most; it = it->next) {
		struct record_view *at = &v[r->events > 0];
		size_t before = r->body.len;

		if (record_read(at, it->parcel->chunk->bytes + it->at, it->len) == 0)
			break; /* it was whole when it came into the window */
		if (r->events > 0)
			text_char(&r->body, ',');
		put_event(e, &r->body, at);
		if (r->events > 0 && l->sent == 0 && r->body.len + 1 > e->most_bytes) {
			r->body.len = before;
			break;
		}
		r->events++;
	}
	if (e->mode == MODE_BATCH)
		text_char(&r->body, ']');
	return end(e, r, &v[0]);
}

bool
request_make_one(struct endpoint *e, const struct record_view *v, struct request *r)
{
	*r = (struct request){ .events = 1 };
	if (e->mode == MODE_BATCH)
		text_char(&r->body, '[');
	put_event(e, &r->body, v);
	if (e->mode == MODE_BATCH)
		text_char(&r->body, ']');
	return end(e, r, v);
}

void
request_free(struct request *r)
{
	text_free(&r->body);
	text_free(&r->head);
}

struct curl_call *
request_send(
    struct endpoint *e, const struct url *u, struct request *r, curl_answer_fn fn, void *arg)
{
	struct grapnel_str headers[CURL_TARGET_MAX_HEADERS];
	struct curl_request request = { .method = "POST",
		.content_type = r->content_type,
		.body = { r->body.data, r->body.len },
		.own_headers = r->own_headers,
		.take_body = true,
		.headers = headers };
	const char *at = r->head.data;
	struct curl_call *call;

	for (; request.header_count < r->header_count &&
	     request.header_count < CURL_TARGET_MAX_HEADERS;
	     request.header_count++) {
		headers[request.header_count] = (struct grapnel_str){ at, strlen(at) };
		at += strlen(at) + 1;
	}
	call = curl_loop_start(e->loop, u->target, &request, fn, arg);
	if (call != NULL)
		r->body = (struct text){ 0 }; /* the call's now */
	return call;
}
