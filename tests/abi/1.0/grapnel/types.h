/* SPDX-License-Identifier: MIT-0 */
/*
 * grapnel/types.h - the vocabulary that every other header of the SDK uses
 *
 * Rules of the border between broker and plugin:
 *   - a struct that crosses begins with its own size; it only grows at the end,
 *     and no side reads a member that lies beyond the size it was told;
 *   - a string is pointer and length, never NUL-terminated, and may hold any byte;
 *   - a handle (struct grapnel_request, _client, _instance ...) is opaque;
 *   - the values of an enum never change.
 */
#ifndef GRAPNEL_TYPES_H
#define GRAPNEL_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Bytes with a length. data may be NULL only when the value is absent; an empty value has len 0. */
struct grapnel_str {
	const char *data;
	size_t len;
};

/** What a function of the host returns: GRAPNEL_OK or one of the negative values. */
enum grapnel_error {
	GRAPNEL_OK = 0,
	GRAPNEL_ENOMEM = -1,	 /* memory could not be had */
	GRAPNEL_EINVAL = -2,	 /* an argument is outside its documented range */
	GRAPNEL_EQUOTA = -3,	 /* a limit of the operator is reached; nothing was changed */
	GRAPNEL_ECANCELED = -4,	 /* the client left or the deadline passed: nothing to undo */
	GRAPNEL_ENOENT = -5,	 /* no such client, option, file ... */
	GRAPNEL_ESYS = -6,	 /* a system call failed; errno says how */
	GRAPNEL_ESTATE = -7,	 /* not allowed now, or on this thread */
	GRAPNEL_EUNSUPPORTED = -8, /* this host does not offer it */
	GRAPNEL_ETIMEOUT = -9,	 /* not done in time */
	GRAPNEL_EFAULT = -10,	 /* data from outside is malformed */
};

/** What a deciding hook answers. Meaning per hook: grapnel/hooks.h. */
enum grapnel_verdict {
	GRAPNEL_ALLOW = 1,	 /* yes; details may be attached with the *_answer functions */
	GRAPNEL_DENY = 2,	 /* no, final; a reason may be attached */
	GRAPNEL_NEXT = 3,	 /* not mine: ask the next plugin of the chain */
	GRAPNEL_PENDING = 4,	 /* resolved later, exactly once, with the *_resolve function */
	GRAPNEL_UNAVAILABLE = 5, /* my backend is in trouble; on_error decides. Never "no". */
};

/** How important a line of the log is. */
enum grapnel_log_level {
	GRAPNEL_LOG_ERROR = 1,
	GRAPNEL_LOG_WARNING = 2,
	GRAPNEL_LOG_NOTICE = 3,
	GRAPNEL_LOG_INFO = 4,
	GRAPNEL_LOG_DEBUG = 5,
	GRAPNEL_LOG_TRACE = 6,
};

/** MQTT protocol versions as the CONNECT packet numbers them. */
enum grapnel_protocol {
	GRAPNEL_MQTT_3_1 = 3,
	GRAPNEL_MQTT_3_1_1 = 4,
	GRAPNEL_MQTT_5_0 = 5,
};

/** What vouches for the user name of a client before any plugin was asked. */
enum grapnel_identity_source {
	GRAPNEL_IDENTITY_NONE = 0,	  /* nothing: it is what the client says */
	GRAPNEL_IDENTITY_CERTIFICATE = 1, /* its certificate, verified by the listener */
	GRAPNEL_IDENTITY_PSK = 2,	  /* a TLS pre-shared key */
	GRAPNEL_IDENTITY_PEER = 3,	  /* the user who runs the process at the other end of a Unix socket */
	GRAPNEL_IDENTITY_PROXY = 4,	  /* a certificate that a trusted proxy has verified */
	GRAPNEL_IDENTITY_HANDLER = 5,	  /* the plugin that speaks for the client (grapnel/plugin.h, listeners) */
};

struct grapnel_host;	 /* table of functions, grapnel/host.h */
struct grapnel_instance; /* one enabled plugin { } section; the host's */
struct grapnel_request;	 /* one question to a deciding hook */
struct grapnel_client;	 /* one session, valid as long as the callback or request that gave it */
struct grapnel_watch;	 /* a watched descriptor */
struct grapnel_timer;	 /* a timer */
struct grapnel_resolve;	 /* a DNS look-up under way */
struct grapnel_job;	 /* a piece of work in the offload pool */
struct grapnel_sub;	 /* an internal subscription */
struct grapnel_block;	 /* a nested block of the plugin's section of the configuration */
struct grapnel_rules;	 /* a compiled set of ACL rules, immutable and counted */

/** A literal as a grapnel_str: GRAPNEL_STR("text"). */
#ifdef __cplusplus
#define GRAPNEL_STR(literal) (grapnel_str{ (literal), sizeof(literal) - 1 })
#else
#define GRAPNEL_STR(literal) ((struct grapnel_str){ (literal), sizeof(literal) - 1 })
#endif

/** A name and its value, for client attributes and User Properties. */
struct grapnel_pair {
	struct grapnel_str name;
	struct grapnel_str value;
};

/** A socket of a listener with handler = this plugin; lent from listener_open to listener_close. */
struct grapnel_listener {
	size_t size;
	struct grapnel_str name;    /* title of its section */
	struct grapnel_str address; /* as bound: "127.0.0.1:1884", "udp:[::1]:1884", "unix:/run/x" */
	int fd;			    /* non-blocking, bound, listening unless datagram; not to be closed */
	unsigned worker;
	bool datagram;		    /* bind = "udp:...": recvfrom and sendto; else accept4 */
};

/** A client that a plugin speaks for. Copied. */
struct grapnel_connection {
	size_t size;
	struct grapnel_str listener; /* whose section counts: limits, mountpoint, anonymous; its handler must be this plugin */
	struct grapnel_str peer;     /* for log and questions, at most 127 bytes; .data NULL: made from address */
	const void *address;	     /* struct sockaddr, for limits per address, as long as peer is made from it; NULL: none */
	size_t address_len;
	struct grapnel_str username; /* that the plugin vouches for (GRAPNEL_IDENTITY_HANDLER); .data NULL: as CONNECT says */
	const struct grapnel_pair *attributes; /* of the connection, at most 24; names "prefix.name" of a-z 0-9 _ - and dots, where
						  the prefix is none of cert, tls, proxy, unix */
	size_t attribute_count;
};

/**
 * A property of an MQTT 5 packet (MQTT 5.0 section 2.2.2.2). Which member of the
 * union counts follows from the identifier: number for byte, two byte, four byte
 * and variable byte integers, str for UTF-8 strings and binary data, pair for a
 * User Property (0x26).
 */
struct grapnel_property {
	uint32_t id;
	uint32_t reserved;
	union {
		uint32_t number;
		struct grapnel_str str;
		struct grapnel_pair pair;
	} u;
};

#ifdef __cplusplus
}
#endif
#endif
