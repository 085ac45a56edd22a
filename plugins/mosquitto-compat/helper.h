/* SPDX-License-Identifier: Apache-2.0 */
/*
 * helper - between the plugin and libgrapnel-mosquitto.so, which has the functions that Mosquitto's plugins import
 *
 * A plugin of Mosquitto finds mosquitto_log_printf and the others in the program that loads it. Here they are in a library that
 * mosquitto-compat links with and makes global before it loads such a plugin. What needs no broker (memory, properties, topics,
 * texts) is done in the library; the rest goes through the functions of the engine that is concerned: named by the plugin's
 * identifier, by the client, by the thread, or, on threads of the foreign plugin's own, by who calls.
 *
 * Both sides come with the same package. An upgrade while the broker runs can bring a new plugin to an old library: HELPER_VERSION.
 *
 * Threads:   the mosquitto_* functions on any; of the others helper_thread on the engine's, the rest on any.
 * Ownership: a claim is the engine's.
 */
#ifndef PLUGINS_MOSQUITTO_COMPAT_HELPER_H
#define PLUGINS_MOSQUITTO_COMPAT_HELPER_H

#include "mosquitto_abi.h"

#include <pthread.h>
#include <stdarg.h>

#define HELPER_EXPORT __attribute__((visibility("default")))
#define HELPER_VERSION 1u

struct engine_head;

/* What a foreign plugin asks of its broker. */
struct engine_calls {
	int (*callback_register)(struct engine_head *engine, int event, callback_fn fn, const void *event_data, void *userdata);
	int (*callback_unregister)(struct engine_head *engine, int event, callback_fn fn, const void *event_data);
	void (*log)(struct engine_head *engine, int level, const char *format, va_list ap);
	int (*set_username)(struct mosquitto *client, const char *username);
	int (*kick_client_id)(struct engine_head *engine, const char *client_id);
	int (*kick_username)(struct engine_head *engine, const char *username);
	int (*publish)(struct engine_head *engine, const char *client_id, const char *topic, int len, const void *payload, int qos,
	    bool retain, const struct mqtt5__property *properties);
	/* It called a function that has no counterpart. */
	void (*unsupported)(struct engine_head *engine, const char *function, const char *instead);
};

/* Begins the engine; it is what a plugin has as its identifier. */
struct engine_head {
	const struct engine_calls *calls;
};

/* What a plugin has as a client. Engine's thread; constant but for the user name. */
struct mosquitto {
	struct engine_head *engine;
	char *id;
	char *username; /* NULL: none */
	char *address;	/* without port; "" on a Unix socket */
	int keepalive;
	int protocol_version;
	bool clean_session;
};

/* A list of them is what a plugin has as mosquitto_property. */
struct mqtt5__property {
	struct mqtt5__property *next;
	int identifier;
	uint32_t number;	/* of the types that are numbers */
	char *value, *name;	/* strings and binary data, NUL behind; name of string pairs only */
	uint16_t value_len, name_len;
	unsigned *alive;	/* NULL, or how many there are of those that count here */
};

enum property_type {
	PROPERTY_NONE = 0,
	PROPERTY_BYTE = 1,
	PROPERTY_INT16 = 2,
	PROPERTY_INT32 = 3,
	PROPERTY_VARINT = 4,
	PROPERTY_BINARY = 5,
	PROPERTY_STRING = 6,
	PROPERTY_PAIR = 7,
};
/* PROPERTY_NONE: no property has that identifier. */
HELPER_EXPORT enum property_type grapnel_mosquitto_type(int identifier);
/* Is it one of those that a packet of that type (its number in the first byte, 0x30 for PUBLISH; 0x100: a Will) may have? */
bool property_fits(int command, int identifier);
#define COMMAND_WILL 0x100

/* A file of a foreign plugin, which keeps its state in itself: it can be used once at a time in a process. */
struct claim {
	struct claim *next;
	struct engine_head *engine;
	const char *path; /* canonical */
	const char *title;
	const void *base; /* where it is mapped; NULL: it is not */
	pthread_t thread;
	bool has_thread;
	bool left; /* nobody may have it any more: it goes when its thread ends, which may be never */
};

HELPER_EXPORT unsigned grapnel_mosquitto_version(void);
/* NULL: the file is mine now; else who has it, which may be gone by now when *left. */
HELPER_EXPORT struct claim *grapnel_mosquitto_claim(struct claim *mine, bool *left);
HELPER_EXPORT void grapnel_mosquitto_leave(struct claim *mine);
HELPER_EXPORT void grapnel_mosquitto_release(struct claim *mine);
HELPER_EXPORT void grapnel_mosquitto_mapped(struct claim *mine, const void *base);
/* What is called on this thread is called by that claim's plugin. */
HELPER_EXPORT void grapnel_mosquitto_thread(struct claim *mine);

/* The ones of Mosquitto that the plugin itself uses. */
HELPER_EXPORT void mosquitto_property_free_all(struct mqtt5__property **properties);
HELPER_EXPORT bool grapnel_mosquitto_add(struct mqtt5__property ***end, int identifier, uint32_t number, const char *value, size_t len,
    const char *name, size_t name_len);

#endif
