/* SPDX-License-Identifier: MIT-0 */
/*
 * grapnel/hooks.h - what a plugin is asked, and what it can answer
 *
 * Deciding hooks
 *   Every deciding hook has the form
 *
 *	enum grapnel_verdict hook(void *instance, struct grapnel_request *req,
 *	    const struct grapnel_<question> *question);
 *
 *   and runs on the home worker of the client it is about: never two at once
 *   for one client, many at once for one instance (one per worker). It must
 *   not block; a worker that is held longer than 50 ms names the plugin in the log.
 *
 *   To answer now, return ALLOW, DENY, NEXT or UNAVAILABLE; details (a reason,
 *   a user name, a new payload ...) are attached first with the function of
 *   grapnel/host.h that the question names, e.g. host->auth_answer(req, &answer).
 *   To answer later, return PENDING and call the matching *_resolve function
 *   exactly once, from any thread. The question is the host's own copy from the
 *   start: it and all it points to stay valid, for every thread, until the request
 *   is resolved. If the client leaves or the deadline passes first, the
 *   request_cancelled callback of the descriptor runs; the handle and the question
 *   stay valid until it is resolved all the same, but client->client becomes NULL.
 *   A request that is never resolved counts against max_pending for ever, and keeps its
 *   instance from being replaced at a reload. A hook may resolve before it returns
 *   PENDING. Resolving twice, or with another hook's function, changes nothing,
 *   returns GRAPNEL_EINVAL and is logged with the plugin's name.
 *
 * Chains
 *   Plugins are asked in the order the operator gives (order, order_<hook>). The
 *   first ALLOW or DENY ends the chain; NEXT asks the next one; UNAVAILABLE does
 *   what on_error says: "unavailable" ends the chain, "deny" is DENY, "next" is
 *   NEXT. For client_authenticate, acl_check and tls_psk_key the end of the chain is DENY.
 *   For message_publish, client_subscribe, client_unsubscribe, message_deliver
 *   and message_acknowledge ALLOW and NEXT both hand on to the next plugin, which
 *   sees what the one before it changed with ALLOW (what is attached to NEXT is not
 *   used), and the end of the chain is ALLOW. A message that one of them drops is not
 *   shown to the next.
 *
 * What UNAVAILABLE is to a client
 *   CONNECT 0x88 (3.x: 3); SUBSCRIBE 0x80; PUBLISH 0x83, or in 3.x closed without
 *   an acknowledgement; delivery: kept and tried again; tls_psk_key: the handshake fails.
 */
#ifndef GRAPNEL_HOOKS_H
#define GRAPNEL_HOOKS_H

#include <grapnel/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Who: the same in every question and event. All members borrowed. */
struct grapnel_client_info {
	size_t size;
	struct grapnel_client *client; /* NULL when no session exists (yet, or any more) */
	struct grapnel_str client_id;
	struct grapnel_str username;   /* .data NULL: none given */
	struct grapnel_str mountpoint; /* "" when none; the client never sees it */
	struct grapnel_str peer;       /* "192.0.2.7:51234", "[2001:db8::1]:4", "unix:" ... */
	struct grapnel_str listener;   /* title of the listener's section */
	struct grapnel_str certificate_subject; /* .data NULL: no certificate */
	/*
	 * Those of the connection, then those set by authentication (tenant, role ...). Of the connection are: cert.subject, cert.cn,
	 * cert.dns, cert.email, cert.uri, cert.issuer, cert.serial, cert.fingerprint, cert.not_after, tls.sni, proxy.cn, proxy.authority,
	 * proxy.unique_id, unix.uid, unix.gid, and those of a listener's handler; each only when there is one, and of several names
	 * of one kind in a certificate the first. A login adds others and changes none of these.
	 */
	const struct grapnel_pair *attributes;
	size_t attribute_count;
	uint64_t session_generation;   /* grows with each new session of this broker */
	uint8_t protocol;	       /* enum grapnel_protocol; 0: internal */
	bool clean_start;
	bool superuser;		       /* ACL is not asked */
	bool anonymous;		       /* came in by anonymous = yes, with no credentials */
	uint16_t keep_alive;	       /* seconds, 0: off */
	uint32_t session_expiry;       /* seconds; UINT32_MAX: never */
	uint8_t identity_source;       /* enum grapnel_identity_source */
};

/** A PUBLISH as it is now (after earlier plugins of the chain). All members borrowed. */
struct grapnel_message_info {
	size_t size;
	struct grapnel_str topic_name; /* as the client knows it, without mountpoint */
	struct grapnel_str payload;
	/*
	 * Encoded, without length; read with host->property_next. In message_publish as they came from the client, Topic Alias
	 * and Message Expiry Interval included; later without these two.
	 */
	struct grapnel_str properties;
	struct grapnel_str author_client_id;
	struct grapnel_str author_username;
	uint32_t message_expiry; /* seconds left, meaningful when has_message_expiry */
	bool has_message_expiry;
	uint8_t qos;
	bool retain;
	bool dup;
	bool will; /* this is a Will Message */
};

/* ---------------------------------------------------------------- what answers depend on */

/**
 * What a plugin looks at before it answers: host->depends_on. Answers of client_authenticate, client_revalidate and acl_check can
 * be kept by the broker (cache_ttl of the instance's section, cache_ttl_ms and no_store of an answer) and are used again for
 * questions that are equal in all that is named here; and one question waits for another that is equal to it and under way.
 * By default an answer depends on everything, payload and properties included, and is good for no other question.
 * acl_check always depends on action, topic, share, QoS and RETAIN too.
 */
enum grapnel_depends {
	GRAPNEL_DEPENDS_USERNAME = 1u << 0,
	GRAPNEL_DEPENDS_PASSWORD = 1u << 1,
	GRAPNEL_DEPENDS_CLIENT_ID = 1u << 2,
	GRAPNEL_DEPENDS_ADDRESS = 1u << 3,    /* peer, without its port */
	GRAPNEL_DEPENDS_LISTENER = 1u << 4,
	GRAPNEL_DEPENDS_IDENTITY = 1u << 5,   /* identity_source, certificate_subject */
	GRAPNEL_DEPENDS_ATTRIBUTES = 1u << 6, /* all of them */
	GRAPNEL_DEPENDS_MOUNTPOINT = 1u << 7,
	GRAPNEL_DEPENDS_PROTOCOL = 1u << 8,
	GRAPNEL_DEPENDS_REST = 1u << 9,	      /* anything else: payload, properties, Will, session: nothing is kept */
	GRAPNEL_DEPENDS_ALL = (1u << 10) - 1,
};

/* ------------------------------------------------------------------ authentication */

/** client_authenticate: a CONNECT without Authentication Method. Answer: auth_answer / auth_resolve. */
struct grapnel_authenticate {
	size_t size;
	const struct grapnel_client_info *client;
	struct grapnel_str password;   /* .data NULL: none given; wiped after the answer */
	struct grapnel_str properties; /* of the CONNECT, encoded */
	const struct grapnel_message_info *will; /* NULL: none */
};

/** Which packet of an enhanced authentication is asked about. */
enum grapnel_exchange_phase {
	GRAPNEL_EXCHANGE_CONNECT = 1,	/* CONNECT carried Authentication Method */
	GRAPNEL_EXCHANGE_CONTINUE = 2,	/* AUTH 0x18 from the client */
	GRAPNEL_EXCHANGE_REAUTH = 3,	/* AUTH 0x19 from the client */
};

/**
 * client_auth_exchange: enhanced authentication (MQTT 5.0 section 4.12). Not your
 * method: NEXT (nobody's: 0x8C). With answer.more the broker sends AUTH 0x18
 * with answer.data and the same instance is asked again. Answer: auth_answer / auth_resolve.
 *
 * What the last ALLOW of a re-authentication (from REAUTH on) says replaces what the login before said: rules, attributes,
 * superuser, valid_until and limits, but for those that CONNACK told the client (packet size, QoS, session expiry). Another user
 * name or mountpoint than the session's is refused (0x87).
 */
struct grapnel_auth_exchange {
	size_t size;
	const struct grapnel_client_info *client;
	enum grapnel_exchange_phase phase;
	struct grapnel_str method;
	struct grapnel_str data;     /* .data NULL: none */
	struct grapnel_str password; /* of the CONNECT, phase CONNECT only */
	struct grapnel_str properties;
};

/**
 * client_revalidate: are the rights of this user, who logged in earlier, still
 * good? No credentials are kept to ask with. Asked of the instance that let the
 * client in, after a reload, after host->cache_purge, and for the author of a delayed Will Message when it
 * fires. DENY disconnects (0x87); NEXT and UNAVAILABLE keep all as it is. ALLOW keeps the client, and what its answer
 * brings (rules, attributes, superuser, valid_until) replaces what the login said; without an answer, nothing changes.
 * Answer: auth_answer / auth_resolve.
 */
struct grapnel_revalidate {
	size_t size;
	const struct grapnel_client_info *client;
};

/** Limits that a verdict can set for one client; 0 keeps the listener's. Never above the listener's. */
struct grapnel_client_limits {
	size_t size;
	uint32_t max_queued_messages;
	uint32_t max_inflight;
	uint32_t max_packet_size;
	uint32_t max_session_expiry; /* seconds */
	uint32_t message_rate;	     /* PUBLISH packets per second that the client may send */
	uint64_t byte_rate;	     /* bytes per second that the client may send */
	uint64_t max_queued_bytes;
	uint8_t max_qos_plus_one;    /* 0: keep; 1: QoS 0 only; 2: QoS 1; 3: QoS 2 */
};

/** Details of a verdict about who a client is. Strings are copied. */
struct grapnel_auth_answer {
	size_t size;
	uint8_t reason_code;	       /* with DENY: the CONNACK's; 0: 0x87 Not authorized */
	bool more;		       /* client_auth_exchange, ALLOW: one more round */
	bool superuser;
	bool no_store;		       /* this answer must not be cached; with UNAVAILABLE: the trouble is this question's alone, so
					  that the broker does not take the backend for dead (breaker_failures) */
	uint32_t cache_ttl_ms;	       /* how long the broker may keep it; 0: cache_ttl of the instance */
	struct grapnel_str reason_string; /* told to MQTT 5 clients; no secrets */
	struct grapnel_str username;   /* .data NULL: as the client gave it */
	struct grapnel_str mountpoint; /* .data NULL: the listener's */
	struct grapnel_str data;       /* client_auth_exchange: Authentication Data to send */
	struct grapnel_str server_reference; /* DENY with 0x9C / 0x9D: where to go instead */
	struct grapnel_str response_information; /* told when the client asked for it */
	const struct grapnel_pair *attributes;
	size_t attribute_count;
	struct grapnel_rules *rules;   /* evaluated before acl_check for this session; the host takes a reference */
	const struct grapnel_client_limits *limits;
	int64_t valid_until;	       /* seconds since 1970; 0: no end */
};

/* ---------------------------------------------------------------------------- rights */

/** What a client wants to do. */
enum grapnel_action {
	GRAPNEL_PUBLISH = 1,
	GRAPNEL_SUBSCRIBE = 2,
	GRAPNEL_READ = 3, /* may this message be delivered to this client? */
	GRAPNEL_WILL = 4, /* like PUBLISH, for the Will Message: at CONNECT and when it fires */
};

/**
 * acl_check: may this client do that? Asked again whenever a hook changed what is
 * really used. Answer: acl_answer / acl_resolve.
 */
struct grapnel_acl_check {
	size_t size;
	const struct grapnel_client_info *client;
	enum grapnel_action action;
	uint8_t qos;
	bool retain;
	struct grapnel_str topic; /* SUBSCRIBE: a Topic Filter without $share/…/; else a Topic Name */
	struct grapnel_str share; /* SUBSCRIBE: ShareName; .data NULL: not shared */
	const struct grapnel_message_info *message; /* PUBLISH, READ, WILL; NULL for SUBSCRIBE */
};

/** Finer verdicts than plain ALLOW. */
enum grapnel_acl_flags {
	GRAPNEL_ACL_DROP = 1u << 0,	       /* PUBLISH: acknowledge, then forget it */
	GRAPNEL_ACL_NO_RETAIN = 1u << 1,       /* PUBLISH: forward, do not retain */
	GRAPNEL_ACL_NO_SEND_RETAINED = 1u << 2, /* SUBSCRIBE: no retained messages */
	GRAPNEL_ACL_COVERED = 1u << 3,	       /* SUBSCRIBE: every message it can match is readable; READ is
						  not asked for this subscription until rights change */
};

/** Details of a verdict about a right. Strings are copied. */
struct grapnel_acl_answer {
	size_t size;
	uint32_t flags;		  /* enum grapnel_acl_flags, with ALLOW */
	uint8_t reason_code;	  /* with DENY; 0: 0x87 */
	uint8_t max_qos_plus_one; /* SUBSCRIBE: grant at most this QoS plus one; 0: as asked */
	bool no_store;		  /* as in grapnel_auth_answer */
	uint32_t cache_ttl_ms;	  /* how long a session may keep this answer: 0: not; UINT32_MAX: until rights change.
				     Only answers given at once are kept */
	struct grapnel_str reason_string; /* told to MQTT 5 clients */
	struct grapnel_str rule;  /* which rule decided, e.g. "acl:12"; for log and explain */
	struct grapnel_str same_for; /* PUBLISH, READ: a Topic Filter. The answer is the same for every Topic Name that it
					matches, with the same QoS and RETAIN, for as long as cache_ttl_ms says. .data NULL: for
					this Topic Name alone. Heeded when no other plugin is in the chain */
};

/* ------------------------------------------------------------------------- messages */

/**
 * message_publish: pass, change or drop a PUBLISH, or a Will Message when it fires (client->client is NULL then).
 * DENY: MQTT 5.0 clients get the Reason Code with PUBACK or PUBREC; 3.x has none, so that the message is acknowledged and forgotten.
 * Answer: publish_answer / publish_resolve.
 */
struct grapnel_message_publish {
	size_t size;
	const struct grapnel_client_info *client;
	const struct grapnel_message_info *message;
};

/** message_deliver: pass, change or drop on the way to one receiver. Answer: publish_answer / publish_resolve. */
struct grapnel_message_deliver {
	size_t size;
	const struct grapnel_client_info *client; /* the receiver */
	const struct grapnel_message_info *message;
};

/** What to change; members with .data NULL (or a false has_…) stay as they are. Copied. */
struct grapnel_publish_answer {
	size_t size;
	bool drop;		/* with ALLOW: acknowledge with success, then forget it */
	bool has_retain, retain;
	bool has_qos;		/* message_publish only */
	uint8_t qos;
	/*
	 * Replace all properties by these, which are ones of an Application Message: no Topic Alias, no Subscription Identifier.
	 * Without a Message Expiry Interval among them the message has none any more.
	 */
	bool has_properties;
	uint8_t reason_code;	/* with DENY; 0: 0x83 */
	struct grapnel_str reason_string;
	struct grapnel_str topic_name;
	struct grapnel_str payload;
	const struct grapnel_property *properties;
	size_t property_count;
};

/** client_subscribe, client_unsubscribe: once per Topic Filter. Answer: subscribe_answer / subscribe_resolve. */
struct grapnel_client_subscribe {
	size_t size;
	const struct grapnel_client_info *client;
	struct grapnel_str filter;     /* as sent, $share/…/ included */
	struct grapnel_str properties; /* of the SUBSCRIBE or UNSUBSCRIBE packet, encoded */
	uint32_t subscription_identifier; /* 0: none */
	uint8_t qos;
	uint8_t retain_handling;
	bool no_local;
	bool retain_as_published;
};

/** What to change of a subscription; members with .data NULL (or a false has_…) stay as they are. Copied. */
struct grapnel_subscribe_answer {
	size_t size;
	bool has_qos;
	uint8_t qos;
	uint8_t reason_code; /* with DENY; 0: 0x87 */
	struct grapnel_str reason_string;
	struct grapnel_str filter; /* .data NULL: as it is; validated like one from a client */
};

/**
 * message_acknowledge: the message has been routed; may its acknowledgement go
 * out? PENDING holds it, and those behind it, in order. DENY sends reason_code
 * (3.x: nothing is sent and the connection is closed). Answer: ack_answer / ack_resolve.
 *
 * The event of a message is there before this hook is asked: what is accepted (reason_code below 0x80) has put its
 * MESSAGE_PUBLISHED, or MESSAGE_DROPPED where a plugin or a rule dropped it, into the queues of this worker, whatever
 * its QoS, session and durability. For the first plugin of the chain that is asked about PUBACK or PUBREC it is the
 * last event there is (host->events_waiting); behind a plugin that took its time others may have followed. Of PUBCOMP, and of
 * PUBREC for a PUBLISH that came again (the connection ended before its PUBREC), it went in at the first PUBREC,
 * perhaps in a process before this one (then there is another event when that PUBLISH comes again). What is refused has none.
 */
struct grapnel_message_acknowledge {
	size_t size;
	const struct grapnel_client_info *client; /* the publisher */
	const struct grapnel_message_info *message; /* empty for PUBCOMP and for PUBREC of a PUBLISH that came again */
	uint16_t packet_identifier;
	uint8_t packet_type; /* 4 PUBACK, 5 PUBREC, 7 PUBCOMP */
	uint8_t reason_code; /* that will be sent */
};

/** Details of a verdict about an acknowledgement. Copied. */
struct grapnel_ack_answer {
	size_t size;
	uint8_t reason_code; /* with DENY; 0: 0x83 */
	struct grapnel_str reason_string;
};

/* ---------------------------------------------------------------------- TLS handshake */

#define GRAPNEL_PSK_KEY_MIN 16u
#define GRAPNEL_PSK_KEY_MAX 64u

/**
 * tls_psk_key: which key does this identity have? Asked in the TLS handshake of a listener with psk = yes when its psk_file
 * does not know the identity, before there is a client: client->client and client_id are empty, listener, peer and the
 * attributes of the connection are there. identity is UTF-8 without control characters, 1 to 128 bytes; others are not
 * asked about. Runs on the worker that accepted, which is not the client's home. One client may have up to four
 * identities asked about, one after the other (TLS 1.3).
 *
 * ALLOW needs a key. DENY and NEXT: this plugin does not know the identity; after DENY nobody else is asked. Whether the client
 * has the key shows only afterwards: ALLOW lets nobody in, and client_authenticate is asked as ever, with the user name
 * of the answer and identity_source GRAPNEL_IDENTITY_PSK. UNAVAILABLE: the handshake fails. The connect_timeout of the listener
 * goes on meanwhile.
 * Answer: psk_answer / psk_resolve.
 */
struct grapnel_tls_psk {
	size_t size;
	const struct grapnel_client_info *client;
	struct grapnel_str identity;
};

/** The key of an identity. Copied. */
struct grapnel_psk_answer {
	size_t size;
	struct grapnel_str key;	     /* the bytes themselves, GRAPNEL_PSK_KEY_MIN to _MAX; copied, wiped after use, never logged */
	struct grapnel_str username; /* UTF-8 without control characters, 1 to 1024 bytes; .data NULL: the identity */
};

#ifdef __cplusplus
}
#endif
#endif
