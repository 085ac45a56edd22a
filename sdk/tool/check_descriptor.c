/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"
#include "plugin/host_pure.h"
#include <stdio.h>
#include <string.h>

#define EVENTS_ALL (GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_COUNT) - 1)

static bool
present(const char *text)
{
	return text != NULL && *text != '\0';
}

/* What the broker looks at before it reads anything else. */
static bool
check_abi(struct check *c, const struct grapnel_plugin *d, size_t symbol_size)
{
	if (symbol_size < offsetof(struct grapnel_plugin, name)) {
		check_say(c, CHECK_FAIL, "descriptor",
		    "it has %zu bytes; not even ABI version and size fit", symbol_size);
		return false;
	}
	if (d->magic != GRAPNEL_PLUGIN_MAGIC) {
		check_say(c, CHECK_FAIL, "descriptor",
		    "its magic number is wrong; fill it with GRAPNEL_PLUGIN_MAGIC");
		return false;
	}
	if (d->abi_major != GRAPNEL_ABI_MAJOR || d->required_minor > GRAPNEL_ABI_MINOR) {
		check_say(c, CHECK_FAIL, "descriptor",
		    "it is for plugin ABI %u.%u and needs at least %u.%u; this SDK has %u.%u: "
		    "compile it again with these headers",
		    d->abi_major, d->abi_minor, d->abi_major, d->required_minor, GRAPNEL_ABI_MAJOR,
		    GRAPNEL_ABI_MINOR);
		return false;
	}
	if (d->size < GRAPNEL_PLUGIN_SIZE_1_0 || d->size > symbol_size) {
		check_say(c, CHECK_FAIL, "descriptor",
		    "its size says %zu; ABI 1.0 has at least %zu, and the object has %zu", d->size,
		    GRAPNEL_PLUGIN_SIZE_1_0, symbol_size);
		return false;
	}
	check_say(c, CHECK_OK, "descriptor", "for plugin ABI %u.%u, needs %u.%u", d->abi_major,
	    d->abi_minor, d->abi_major, d->required_minor);
	if (d->required_minor > d->abi_minor)
		check_say(c, CHECK_FAIL, "descriptor",
		    "required_minor is newer than the ABI it was compiled with");
	return true;
}

static void
check_texts(struct check *c, const struct grapnel_plugin *d)
{
	if (!present(d->name))
		check_say(c, CHECK_FAIL, "name", "there is none; the broker refuses it");
	else if (!plain_name(d->name, "_-"))
		check_say(
		    c, CHECK_WARNING, "name", "\"%s\": a name is best a-z, 0-9, - and _", d->name);
	else
		check_say(c, CHECK_OK, "name", "%s", d->name);
	if (!present(d->version))
		check_say(c, CHECK_FAIL, "version",
		    "there is none; fill in .version, operators have to know what they run");
	else
		check_say(c, CHECK_OK, "version", "%s", d->version);
	if (!present(d->license))
		check_say(c, CHECK_FAIL, "licence",
		    "there is none; fill in .license with its SPDX name, such as MIT");
	else
		check_say(c, CHECK_OK, "licence", "%s", d->license);
	if (!present(d->description))
		check_say(c, CHECK_WARNING, "description",
		    "there is none; one sentence says what it is for");
	else
		check_say(c, CHECK_OK, "description", "%s", d->description);
}

static unsigned
hook_count(const struct grapnel_plugin *d)
{
	return (d->client_authenticate != NULL) + (d->client_auth_exchange != NULL) +
	    (d->client_revalidate != NULL) + (d->acl_check != NULL) + (d->message_publish != NULL) +
	    (d->client_subscribe != NULL) + (d->client_unsubscribe != NULL) +
	    (d->message_deliver != NULL) + (d->message_acknowledge != NULL) +
	    (d->tls_psk_key != NULL);
}

static void
check_callbacks(struct check *c, const struct grapnel_plugin *d)
{
	unsigned faults = c->count[CHECK_FAIL] + c->count[CHECK_WARNING];

	if (d->create == NULL)
		check_say(c, CHECK_FAIL, "callbacks", "there is no create; the broker refuses it");
	else if (d->destroy == NULL)
		check_say(c, CHECK_WARNING, "callbacks",
		    "there is create and no destroy: what it makes is never freed");
	if (d->worker_start != NULL && d->worker_stop == NULL)
		check_say(c, CHECK_WARNING, "callbacks",
		    "there is worker_start and no worker_stop: what it makes on a worker is never "
		    "freed");
	if ((d->listener_open != NULL) != (d->listener_close != NULL))
		check_say(c, CHECK_FAIL, "callbacks",
		    "listener_open and listener_close go together: sockets are lent and taken "
		    "back");
	if (d->events != 0 && d->on_events == NULL)
		check_say(c, CHECK_FAIL, "events",
		    "it asks for events and has no on_events; the broker refuses it");
	if (d->events != UINT64_MAX && (d->events & ~EVENTS_ALL) != 0)
		check_say(
		    c, CHECK_WARNING, "events", "it asks for events that this ABI does not have");
	if (d->event_mode != GRAPNEL_EVENTS_LOSSY && d->event_mode != GRAPNEL_EVENTS_LOSSLESS)
		check_say(c, CHECK_FAIL, "events", "event_mode is %d, which is no mode",
		    (int)d->event_mode);
	if (c->count[CHECK_FAIL] + c->count[CHECK_WARNING] == faults)
		check_say(c, CHECK_OK, "callbacks", "%u deciding hook(s)%s%s", hook_count(d),
		    d->on_events != NULL ? ", events" : "",
		    d->listener_open != NULL ? ", listeners" : "");
}

bool
check_descriptor(struct check *c, const struct grapnel_plugin *d, size_t symbol_size)
{
	if (!check_abi(c, d, symbol_size))
		return false;
	check_texts(c, d);
	check_callbacks(c, d);
	return true;
}
