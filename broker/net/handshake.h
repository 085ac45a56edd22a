/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handshake - what happens on a Network Connection before MQTT: PROXY header, TLS, WebSocket
 *
 * The listener's section says which steps there are. Each works on the stream that the one before it left, puts its
 * own layer on top, and may learn who the peer is. A step is called again whenever the descriptor is ready for what it said
 * it waits for, until it is done.
 *
 * proxy.c	the PROXY header; its bytes are proxy_header.c's
 * tls.c	TLS; contexts of listeners are in tls_context.h
 * websocket.c	the upgrade request of WebSocket, or the discovery that it is MQTT after all
 *
 * Threads:   the worker that accepted.
 * Ownership: the connection's, freed when MQTT begins or the connection closes. What was learned is copied on.
 * Bounded:   connect_timeout for all of it together with CONNECT; each step by what it reads at most.
 */
#ifndef BROKER_NET_HANDSHAKE_H
#define BROKER_NET_HANDSHAKE_H

#include "config/settings.h"
#include "net/stream.h"
#include <grapnel/types.h>
#include <sys/socket.h>

struct broker;
struct psk_ask;
struct tls_context;
struct worker;

enum handshake_status {
	HANDSHAKE_DONE,
	HANDSHAKE_READ,	 /* when there is something to read */
	HANDSHAKE_WRITE, /* when something can be written */
	HANDSHAKE_WAIT,	 /* until h->wake is called */
	HANDSHAKE_FAILED, /* h->why */
	HANDSHAKE_OVER,	 /* close it, without a word: its refusal has been told, or it left before it wanted anything */
};

/* What is known of a peer besides its credentials. */
#define FACTS_MAX	24u
#define FACTS_BYTES_MAX 4096u
struct facts {
	struct sockaddr_storage address; /* the real one, as far as proxies are trusted */
	socklen_t address_len;
	struct grapnel_str username;	 /* by `identity`; .data NULL: none */
	uint8_t source;			 /* enum grapnel_identity_source, of username */
	unsigned count;
	struct grapnel_pair attributes[FACTS_MAX]; /* "cert.cn" ... ; names are literals */
	char *bytes;			 /* of values and username */
	size_t bytes_len;
};
/*
 * Copied. Only printable UTF-8 [MQTT-1.5.4-1] without control characters is taken, and the first FACTS_MAX of FACTS_BYTES_MAX bytes.
 * false: not taken; a caller to whom that matters refuses the peer.
 */
bool facts_add(struct facts *f, const char *name, const void *value, size_t len);
bool facts_set_username(struct facts *f, uint8_t source, const void *value, size_t len);
const struct grapnel_pair *facts_find(const struct facts *f, const char *name); /* NULL: no such */
/* Of a connection that was just accepted: its address, and with identity = peer who is behind a Unix socket. */
void facts_init(struct facts *f, int fd, const struct listener_settings *ls, const struct sockaddr *peer, socklen_t peer_len);
void facts_clear(struct facts *f);

struct handshake {
	struct stream *stream;		      /* the connection's */
	struct worker *worker;
	const struct listener_settings *ls;   /* as it was at accept, with a reference to its settings */
	struct tls_context *tls;	      /* as the listener had it at accept; one reference; NULL: no TLS */
	struct facts facts;
	void (*wake)(struct handshake *h);    /* any step that said HANDSHAKE_WAIT; on its worker; may free h */
	bool (*known)(struct handshake *h);   /* called once facts.address is the real one, before anything dear is done; false: HANDSHAKE_OVER */
	void *arg;			      /* of whoever sets these */
	unsigned step;
	bool entered;			      /* its address has been asked for room: conn_handshake.c */
	void *state;			      /* of the step under way */
	struct psk_ask *psk;		      /* tls_psk_ask.c; NULL: plugins are not asked for keys */
	char why[200];			      /* HANDSHAKE_FAILED: for the log; may hold what the peer sent, escaped by the log */
};

/* Does this listener have anything to do before MQTT? */
bool handshake_needed(const struct listener_settings *ls);
struct handshake *handshake_new(struct worker *w, struct stream *s, const struct listener_settings *ls,
    struct tls_context *tls, const struct sockaddr *peer, socklen_t peer_len); /* takes tls in any case; NULL: no memory */
enum handshake_status handshake_run(struct handshake *h);
void handshake_free(struct handshake *h); /* any time: gives up what is under way; NULL is fine */

/* A step: run it on; and give up its h->state, which is not NULL. */
struct handshake_step {
	bool (*wanted)(const struct listener_settings *ls);
	enum handshake_status (*run)(struct handshake *h);
	void (*cancel)(struct handshake *h);
};
extern const struct handshake_step handshake_proxy;	/* proxy.c */
/* Is this one of the listener's trusted_proxies? */
bool handshake_proxy_trusted(const struct listener_settings *ls, const struct sockaddr *peer);
extern const struct handshake_step handshake_tls;	/* tls.c */
extern const struct handshake_step handshake_websocket; /* websocket.c */

/* Sets h->why. Always HANDSHAKE_FAILED. */
enum handshake_status handshake_fail(struct handshake *h, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
