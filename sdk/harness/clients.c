/* SPDX-License-Identifier: Apache-2.0 */
/* Clients of the script: who they are, what a login made of them, and the plugin's slot with each. */
#include "core/acl.h"
#include "inside.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SLOTS 4u

static struct grapnel_str
str_copy(struct grapnel_str s)
{
	return (struct grapnel_str){ copy_text(s.data, s.len), s.len };
}

static void
str_set(struct grapnel_str *to, struct grapnel_str value)
{
	free((void *)(uintptr_t)to->data);
	*to = str_copy(value);
}

struct sim_client *
client_find_name(harness *h, const char *name)
{
	struct sim_client *c;

	for (c = h->clients; c != NULL && strcmp(c->name, name) != 0; c = c->next)
		continue;
	return c;
}

struct sim_client *
client_add(harness *h, const char *name)
{
	struct sim_client *c = calloc(1, sizeof(*c));
	struct sim_client **at = &h->clients;
	struct grapnel_str id = { name, strlen(name) };

	if (c == NULL)
		return NULL;
	c->h = h;
	c->name = copy_text(name, strlen(name));
	c->info = (struct grapnel_client_info){ .size = sizeof(c->info),
		.protocol = GRAPNEL_MQTT_5_0,
		.clean_start = true,
		.keep_alive = 60 };
	c->info.client = &c->handle;
	c->info.client_id = str_copy(id);
	c->info.mountpoint = str_copy(GRAPNEL_STR(""));
	c->info.peer = str_copy(GRAPNEL_STR("192.0.2.1:50000"));
	c->info.listener = str_copy(GRAPNEL_STR("mqtt"));
	c->info.session_generation = ++h->order;
	while (*at != NULL)
		at = &(*at)->next;
	*at = c;
	return c;
}

/* ---- what the script says of one --------------------------------------------------------------------- */

static bool
yes_of(struct grapnel_str value, bool *out)
{
	*out = value.len == 3 && memcmp(value.data, "yes", 3) == 0;
	return *out || (value.len == 2 && memcmp(value.data, "no", 2) == 0);
}

static bool
attribute_add(struct sim_client *c, struct grapnel_str name, struct grapnel_str value)
{
	struct grapnel_pair *more;

	for (size_t i = c->connection_count; i < c->own_count; i++) {
		if (c->own[i].name.len == name.len &&
		    memcmp(c->own[i].name.data, name.data, name.len) == 0) {
			str_set(&c->own[i].value, value);
			return true;
		}
	}
	more = realloc(c->own, (c->own_count + 1) * sizeof(*more));
	if (more == NULL)
		return false;
	c->own = more;
	c->own[c->own_count++] = (struct grapnel_pair){ str_copy(name), str_copy(value) };
	c->info.attributes = c->own;
	c->info.attribute_count = c->own_count;
	return true;
}

static bool
identity_of(struct grapnel_str value, uint8_t *out)
{
	static const char *const names[] = { "none", "certificate", "psk", "peer", "proxy",
		"handler" };

	for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (value.len == strlen(names[i]) && memcmp(value.data, names[i], value.len) == 0) {
			*out = (uint8_t)i;
			return true;
		}
	}
	return false;
}

static bool
protocol_of(struct grapnel_str value, uint8_t *out)
{
	static const struct {
		const char *text;
		uint8_t number;
	} names[] = { { "3.1", 3 }, { "3", 3 }, { "3.1.1", 4 }, { "4", 4 }, { "5", 5 },
		{ "5.0", 5 }, { "internal", 0 } };

	for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (value.len == strlen(names[i].text) &&
		    memcmp(value.data, names[i].text, value.len) == 0) {
			*out = names[i].number;
			return true;
		}
	}
	return false;
}

int
client_set(
    struct sim_client *c, const char *key, struct grapnel_str value, char *error, size_t size)
{
	struct grapnel_client_info *i = &c->info;
	const struct {
		const char *key;
		struct grapnel_str *to;
	} strings[] = { { "id", &i->client_id }, { "username", &i->username },
		{ "mountpoint", &i->mountpoint }, { "peer", &i->peer },
		{ "listener", &i->listener }, { "certificate_subject", &i->certificate_subject } };
	const struct {
		const char *key;
		bool *to;
	} flags[] = { { "clean_start", &i->clean_start }, { "superuser", &i->superuser },
		{ "anonymous", &i->anonymous } };
	uint64_t n;

	for (unsigned k = 0; k < sizeof(strings) / sizeof(*strings); k++) {
		if (strcmp(strings[k].key, key) == 0) {
			str_set(strings[k].to, value);
			return GRAPNEL_OK;
		}
	}
	for (unsigned k = 0; k < sizeof(flags) / sizeof(*flags); k++) {
		if (strcmp(flags[k].key, key) == 0 && yes_of(value, flags[k].to))
			return GRAPNEL_OK;
	}
	if (strncmp(key, "attribute.", 10) == 0 && key[10] != '\0') {
		struct grapnel_str name = { key + 10, strlen(key + 10) };

		if (!attribute_add(c, name, value))
			return GRAPNEL_ENOMEM;
		return GRAPNEL_OK;
	}
	if (strcmp(key, "protocol") == 0 && protocol_of(value, &i->protocol))
		return GRAPNEL_OK;
	if (strcmp(key, "identity") == 0 && identity_of(value, &i->identity_source))
		return GRAPNEL_OK;
	if (strcmp(key, "keep_alive") == 0 && number_of(value, UINT16_MAX, &n)) {
		i->keep_alive = (uint16_t)n;
		return GRAPNEL_OK;
	}
	if (strcmp(key, "session_expiry") == 0 && number_of(value, UINT32_MAX, &n)) {
		i->session_expiry = (uint32_t)n;
		return GRAPNEL_OK;
	}
	if (strcmp(key, "worker") == 0 && number_of(value, c->h->worker_count - 1, &n)) {
		c->worker = (unsigned)n;
		return GRAPNEL_OK;
	}
	snprintf(error, size,
	    "a client has no %s=%.*s; there are id, username, mountpoint, peer, listener, "
	    "certificate_subject, identity, protocol, worker, keep_alive, session_expiry, "
	    "clean_start, "
	    "superuser, anonymous and attribute.NAME",
	    key, (int)(value.len > 200 ? 200 : value.len), value.data != NULL ? value.data : "");
	return GRAPNEL_EINVAL;
}

/* ---- logins ----------------------------------------------------------------------------------------------- */

void
client_login(struct sim_client *c, const struct grapnel_auth_answer *a, bool again)
{
	if (a == NULL)
		return;
	/* What it says replaces what the login before said. */
	while (c->own_count > c->connection_count) {
		struct grapnel_pair *pair = &c->own[--c->own_count];

		free((void *)(uintptr_t)pair->name.data);
		free((void *)(uintptr_t)pair->value.data);
	}
	c->info.attribute_count = c->own_count;
	if (!again) {
		if (a->username.data != NULL)
			str_set(&c->info.username, a->username);
		if (a->mountpoint.data != NULL)
			str_set(&c->info.mountpoint, a->mountpoint);
	}
	for (size_t i = 0; i < a->attribute_count; i++)
		(void)attribute_add(c, a->attributes[i].name, a->attributes[i].value);
	c->info.superuser = a->superuser;
	acl_rules_unref(c->rules);
	c->rules = a->rules != NULL ? acl_rules_ref(a->rules) : NULL;
}

/* ---- slots ------------------------------------------------------------------------------------------------- */

static unsigned
slot_of(const struct sim_client *c, const struct plug *p, unsigned none)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		if (c->slot_plug[i] == p)
			return i;
	}
	return none;
}

static struct sim_client *
client_known(harness *h, const struct grapnel_client *client, const char *function)
{
	struct sim_client *c;

	for (c = h->clients; c != NULL && &c->handle != client; c = c->next)
		continue;
	if (c == NULL)
		finding(h, "bad handle: %s was given %p, which is no client", function,
		    (const void *)client);
	else if (c->left)
		finding(h, "use after free: %s of client %s, which has left", function, c->name);
	else if (worker_here() != (int)c->worker)
		finding(h, "wrong thread: %s of client %s of worker %u on another thread", function,
		    c->name, c->worker);
	else
		return c;
	return NULL;
}

void *
slot_get(struct grapnel_instance *self, const struct grapnel_client *client)
{
	struct plug *p = plug_of(self, "client_slot");
	const struct sim_client *c;
	unsigned i;

	if (p == NULL || client == NULL || (c = client_known(p->h, client, "client_slot")) == NULL)
		return NULL;
	i = slot_of(c, p, SLOTS);
	return i < SLOTS ? c->slots[i] : NULL;
}

int
slot_set(struct grapnel_instance *self, struct grapnel_client *client, void *data)
{
	struct plug *p = plug_here(self, "client_set_slot");
	struct sim_client *c;
	unsigned i;

	if (p == NULL)
		return GRAPNEL_ESTATE;
	if (client == NULL)
		return GRAPNEL_EINVAL;
	if ((c = client_known(p->h, client, "client_set_slot")) == NULL)
		return GRAPNEL_EINVAL;
	i = slot_of(c, p, SLOTS);
	if (i == SLOTS && (i = slot_of(c, NULL, SLOTS)) == SLOTS)
		return GRAPNEL_ENOMEM;
	c->slot_plug[i] = data != NULL ? p : NULL;
	c->slots[i] = data;
	return GRAPNEL_OK;
}

static void
slot_drop(struct sim_client *c, unsigned i)
{
	struct plug *p = c->slot_plug[i];
	void *data = c->slots[i];

	c->slot_plug[i] = NULL;
	c->slots[i] = NULL;
	if (p == NULL || data == NULL)
		return;
	if (p->plugin.client_slot_free != NULL) {
		struct call call;

		call_begin(&call, p, "client_slot_free");
		p->plugin.client_slot_free(p->instance, data);
		call_end(&call);
	} else {
		finding(c->h,
		    "leak: the slot of client %s has something in it, and the descriptor has no "
		    "client_slot_free",
		    c->name);
	}
}

void
clients_slots_drop(struct plug *p, unsigned worker)
{
	for (struct sim_client *c = p->h->clients; c != NULL; c = c->next) {
		unsigned i = slot_of(c, p, SLOTS);

		if (c->worker == worker && i < SLOTS)
			slot_drop(c, i);
	}
}

static void
leave_here(harness *h, unsigned worker, void *arg)
{
	struct sim_client *c = arg;

	(void)h;
	(void)worker;
	for (unsigned i = 0; i < SLOTS; i++)
		slot_drop(c, i);
}

void
client_leave(struct sim_client *c)
{
	harness *h = c->h;

	for (struct asked *a = h->asks; a != NULL; a = a->next) {
		if (a->client == c && !ask_decided(h, a))
			ask_cancel(a);
	}
	(void)on_worker(h, c->worker, leave_here, c);
	c->left = true;
	c->info.client = NULL; /* what comes now, a Will Message or an event, has none any more */
}

/* ---- looking one up ------------------------------------------------------------------------------------------ */

struct look {
	struct plug *plug;
	char *mountpoint, *client_id;
	size_t mountpoint_len, client_id_len;
	void (*fn)(void *arg, const struct grapnel_client_info *info);
	void *arg;
};

static struct region *
info_copy(harness *h, const struct grapnel_client_info *info)
{
	struct grapnel_client_info scratch, *to;
	struct layout l = { NULL, 0 };
	struct region *r;

	layout_client(&l, info, &scratch);
	r = region_new(h, sizeof(*to) + l.len, "the client of client_find");
	if (r == NULL)
		return NULL;
	to = r->at;
	l.p = (char *)(to + 1);
	l.len = 0;
	layout_client(&l, info, to);
	return r;
}

static void
look_here(void *arg)
{
	struct look *l = arg;
	harness *h = l->plug->h;
	struct region *r = NULL;
	struct call call;

	for (const struct sim_client *c = h->clients; c != NULL && r == NULL; c = c->next) {
		struct grapnel_client_info info = c->info;

		if (c->left || info.client_id.len != l->client_id_len ||
		    info.mountpoint.len != l->mountpoint_len ||
		    memcmp(info.client_id.data, l->client_id, l->client_id_len) != 0 ||
		    memcmp(info.mountpoint.data, l->mountpoint, l->mountpoint_len) != 0)
			continue;
		if (worker_here() != (int)c->worker)
			info.client = NULL; /* its handle is another worker's */
		r = info_copy(h, &info);
	}
	if (l->plug->workers[worker_here()].started) {
		call_begin(&call, l->plug, "client_find callback");
		l->fn(l->arg, r != NULL ? r->at : NULL);
		call_end(&call);
	}
	region_take(r);
	free(l->mountpoint);
	free(l->client_id);
	free(l);
}

int
client_look(struct grapnel_instance *self, struct grapnel_str mountpoint,
    struct grapnel_str client_id, void (*fn)(void *arg, const struct grapnel_client_info *info),
    void *arg)
{
	struct plug *p = plug_here(self, "client_find");
	struct look *l;

	if (p == NULL)
		return GRAPNEL_ESTATE;
	if (fn == NULL || (client_id.data == NULL && client_id.len > 0))
		return GRAPNEL_EINVAL;
	if ((l = calloc(1, sizeof(*l))) == NULL)
		return GRAPNEL_ENOMEM;
	l->plug = p;
	l->fn = fn;
	l->arg = arg;
	l->mountpoint_len = mountpoint.data != NULL ? mountpoint.len : 0;
	l->client_id_len = client_id.len;
	l->mountpoint = copy_text(mountpoint.data, l->mountpoint_len);
	l->client_id = copy_text(client_id.data, client_id.len);
	if (l->mountpoint == NULL || l->client_id == NULL ||
	    posted_add(p->h, (unsigned)worker_here(), p, NULL, look_here, l, true) != GRAPNEL_OK) {
		free(l->mountpoint);
		free(l->client_id);
		free(l);
		return GRAPNEL_ENOMEM;
	}
	return GRAPNEL_OK;
}

void
clients_free(harness *h)
{
	struct sim_client *c;

	while ((c = h->clients) != NULL) {
		struct grapnel_client_info *i = &c->info;
		struct grapnel_str *const strings[] = { &i->client_id, &i->username, &i->mountpoint,
			&i->peer, &i->listener, &i->certificate_subject };

		h->clients = c->next;
		for (unsigned k = 0; k < sizeof(strings) / sizeof(*strings); k++)
			free((void *)(uintptr_t)strings[k]->data);
		for (size_t k = 0; k < c->own_count; k++) {
			free((void *)(uintptr_t)c->own[k].name.data);
			free((void *)(uintptr_t)c->own[k].value.data);
		}
		free(c->own);
		acl_rules_unref(c->rules);
		free(c->name);
		free(c);
	}
}
