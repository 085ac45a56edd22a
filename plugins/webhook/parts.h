/* SPDX-License-Identifier: Apache-2.0 */
/*
 * webhook - what its files know of each other
 *
 * A worker selects events for each endpoint and hands them over in chunks (queue.c). The keeper, a thread of the instance's
 * own, writes them to the outbox and reads back what did not fit into memory (keeper.c; the database is in outbox.c). The
 * sender, a loop on another thread, spreads them over lanes and sends them (sender.c, lane.c; what is sent is in request.c).
 *
 *	worker --push--> queue: unwritten --keeper--> outbox (rows)
 *	                   |                            |
 *	                   +------> window <---refill---+
 *	                              |
 *	                            sender: lanes, requests
 *
 * In the order of an endpoint's events the window comes first, then what is in the outbox alone, then what is unwritten and not
 * in the window. What is done before it was written never is.
 *
 * Threads:   w->lock guards what is marked [lock]; the rest belongs to the thread that is named, or is constant.
 * Ownership: a parcel is the queue's while it is unwritten, and the sender's while it is in the window: the last one frees it.
 * Bounded:   memory of an endpoint: twice its option `memory`, a quarter of it for refused events that are not written yet, and
 *            a body for each lane; its outbox: max_bytes and max_age.
 */
#ifndef PLUGINS_WEBHOOK_PARTS_H
#define PLUGINS_WEBHOOK_PARTS_H

#include "common/curl_loop.h"
#include "events/body.h"
#include "events/chunk.h"
#include "events/format.h"
#include "events/select.h"
#include "common/own_loop.h"
#include "common/read_file.h"

#include <pthread.h>
#include <stdatomic.h>

#define MAX_ENDPOINTS 64u
#define MAX_URLS      16u
#define MAX_KEYS      4u
#define MAX_HEADERS   16u /* of the operator's; ours are beside them: CURL_TARGET_MAX_HEADERS */
#define MAX_LANES     256u
#define ERROR_SIZE    256u
#define RESPONSE_KEPT 1024u /* of the body that refused an event */

struct webhook;
struct endpoint;
struct place; /* place.c */
struct outbox; /* outbox.c */

/* ---- events on their way ----------------------------------------------------------------------- */

struct item {
	struct item *next; /* of its lane */
	struct parcel *parcel;
	uint32_t at; /* in the chunk */
	uint32_t len;
};

/* A chunk of one endpoint; in the outbox it is one row. */
struct parcel {
	struct parcel *next_unwritten, *next_window;
	struct parcel *prev, *next; /* sender: of those that it has */
	struct endpoint *e;
	struct chunk *chunk;
	int64_t row;     /* [lock] 0: not in the outbox */
	bool unwritten;  /* [lock] in the queue, or being written */
	_Atomic bool in_window; /* [lock] the sender has it, or will. These two are read without it, too: keeper_calm.c */
	_Atomic bool done;      /* [lock] nothing of it is wanted any more; set before in_window goes */
	bool sealed;     /* [lock] nothing is put to it */
	uint64_t ticket; /* number of its push */
	uint64_t since_ms;
	uint32_t left;      /* sender: events that are not done */
	struct item *items; /* sender */
};

/* A PUBLISH whose acknowledgement waits until its event is safe. */
struct held {
	struct held *prev, *next;
	struct held **first, **last; /* of the list that it is in */
	struct webhook *w;
	struct grapnel_request *req;
	uint64_t ticket; /* worker's: number of its event; queue's: number of the push */
};

/* ---- endpoints --------------------------------------------------------------------------------- */

enum order_by { ORDER_CLIENT, ORDER_TOPIC, ORDER_TOTAL, ORDER_NONE };
enum when_full { DROP_OLDEST, DROP_NEW, STOP_PUBLISHERS };
enum mode { MODE_BATCH, MODE_STRUCTURED, MODE_BINARY };

struct url {
	struct curl_target *target;
	/* sender */
	unsigned failures; /* in a row; 0: it is up */
	uint64_t down_until_ms;
	bool probing;
	/* [lock], for status */
	long status; /* last answer; 0: none */
	char error[ERROR_SIZE];
};

struct signing_key {
	char *id;
	unsigned char *secret;
	size_t len;
};

enum lost_why { LOST_FULL, LOST_OLD, LOST_DAMAGED, LOST_MEMORY, LOST_WHY_COUNT };

struct lane {
	struct endpoint *e;
	struct item *first, *last;
	uint32_t count;
	uint32_t sent;     /* items in the request that is under way, or is to be repeated: the first of them; 0: none */
	uint32_t most;     /* at most so many in a request, while `careful` of them are left; 0: no such limit */
	uint32_t careful;
	unsigned attempts; /* of what is sent */
	size_t body_len;
	struct url *url;
	struct curl_call *call; /* NULL: none is under way */
};

struct endpoint {
	struct webhook *w;
	char *name;
	int64_t id; /* keeper: in the outbox */

	/* constant */
	struct selection *selection;
	struct format_options format;
	uint64_t possible; /* GRAPNEL_EVENT_BITs of it */
	enum mode mode;
	struct body_template *body;
	struct header_templates *headers;
	size_t payload_max;
	enum order_by order_by;
	enum when_full when_full;
	bool spread;
	uint32_t lane_count, batch_events, batch_time_ms, retry_min_ms, retry_max_ms, max_attempts, dead_letters, idle_ms;
	size_t batch_bytes, memory;
	uint64_t max_bytes;
	int64_t max_age_us;
	struct signing_key keys[MAX_KEYS];
	unsigned key_count;
	char *token_file, *source, *type_prefix, *content_type;
	struct url urls[MAX_URLS];
	unsigned url_count;

	/* [lock] */
	_Atomic bool paused; /* written under the lock */
	bool spilling;  /* something is behind the window: the rest goes there, too */
	bool want_more; /* there is room in the window again */
	bool sender_busy; /* nothing that comes could be sent now; when something can be, the sender looks again by itself */
	struct parcel *window, *window_last; /* for the sender to take */
	size_t window_bytes, unwritten_bytes;
	_Atomic uint64_t stored_bytes; /* read without the lock, too: keeper_calm.c */
	uint64_t stored_events; /* rows of the outbox, those in the window included, as are stored_bytes */
	uint64_t window_events, window_stored, window_stored_bytes; /* the latter: of those that are in the outbox, too */
	uint64_t unwritten_events;	       /* that are not in the window */
	uint64_t lost[LOST_WHY_COUNT];
	uint64_t lost_untold; /* since the last gap event */
	uint64_t dead;        /* dead letters that are kept */
	uint32_t dead_waiting; /* to be written */
	size_t dead_waiting_bytes;
	uint64_t lost_log_ms; /* the log is told again after that */
	bool lost_logged;     /* of what is untold */
	uint64_t delivered, requests, failures;
	int64_t delivered_us; /* when last */
	char error[ERROR_SIZE];

	/* keeper */
	int64_t loaded_row; /* rows up to this one are, or were, in the window */
	int64_t batch_row;  /* and with the batch that is being written */
	uint64_t batch_bytes_added;
	uint64_t trimmed_log_ms; /* of dead letters that were too many the log is told again after that */
	/* sender */
	struct lane *lanes;
	struct parcel *parcels; /* that it has */
	struct curl_loop *loop;
	struct grapnel_timer *timer;
	unsigned next_url;
	bool complained; /* of what is wrong now */
	uint64_t dead_log_ms; /* the log is told again after that */
	bool short_of_memory; /* something stayed in the window for that */
	size_t most_bytes; /* of a body: batch_bytes, or less after 413 */
	uint64_t token_ms;
	char *token; /* "Authorization: Bearer ..."; NULL: none */
};

/* ---- the instance -------------------------------------------------------------------------------- */

struct worker_part {
	_Alignas(64) struct webhook *w;
	uint64_t taken; /* events */
	struct held *held, *held_last; /* whose events have not come yet */
	bool stalled;   /* [lock] waits for room */
};

struct metrics {
	int events, delivered, requests, failures, lost, dead, held, outbox_bytes, outbox_events, memory, writes, write_failures;
	struct curl_loop_metrics curl;
};

/* Something for the keeper to do besides: job.c */
struct job {
	struct job *next;
	void (*run)(struct job *job, struct outbox *o); /* on the keeper; frees it. o NULL: there is none */
};

/* A dead letter on its way to the outbox. */
struct dead {
	struct dead *next;
	struct endpoint *e;
	char *record;
	size_t record_len;
	long status;
	char id[EVENT_ID_SIZE];
	char response[RESPONSE_KEPT + 1];
};

#define DEAD_COST(d)     (sizeof(*(d)) + (d)->record_len)
#define DEAD_MUCH(e)     ((e)->memory / 4) /* so much of them may wait to be written, or a single one */
#define LOG_AGAIN_MS     1000u		   /* what could be said of every event is said once in that time */

struct webhook {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	struct metrics m;
	char *path; /* of the outbox; NULL: in memory */
	char *key;  /* whom it belongs to: place.h */
	bool claimed;
	bool after_outbox;
	uint32_t write_delay_ms, stop_timeout_ms;
	struct endpoint *endpoints[MAX_ENDPOINTS];
	unsigned endpoint_count;
	uint64_t mask;

	pthread_mutex_t start_lock; /* of the first worker_start */
	pthread_mutex_t lock;
	pthread_cond_t wake; /* the keeper; monotonic clock */
	/* [lock] */
	struct parcel *unwritten, *unwritten_last;
	struct held *held, *held_last;
	struct dead *dead, *dead_last;
	struct job *jobs, *jobs_last;
	bool replaying;     /* letters that were sent anew are not removed from the outbox yet */
	int64_t *done_rows; /* to be deleted; negative: a dead letter that was sent anew */
	size_t done_count, done_capacity;
	uint64_t pushed;    /* pushes so far */
	uint64_t since_ms;  /* something unwritten waits since then; 0: nothing */
	bool calm; /* the keeper gives way: keeper_calm.c */
	bool sender_called, ending, sender_ended;
	unsigned running;   /* workers; under start_lock */
	struct grapnel_event_id id; /* of the last event: node and boot */

	_Atomic bool hurry; /* it does no longer, since somebody waits for it */

	struct place *place; /* keeper */
	pthread_t keeper;
	bool keeping; /* it runs, or is to be joined */
	struct own_loop *loop;
	struct own_loop_call call, last_call;
	struct worker_part *parts;
};

/* endpoint.c */
struct endpoint *endpoint_new(struct webhook *w, const struct grapnel_block *block, struct grapnel_str name); /* NULL: said why */
void endpoint_free(struct endpoint *e);
extern const struct grapnel_option endpoint_options[];

/* queue.c: what lies between the threads */
#define SPILL_DELAY_MS 20u /* for events that are behind the window: nothing that waits for write_delay becomes unnecessary */
/* Parts of an endpoint's memory. */
#define QUEUE_MUCH     4u /* if so much is unwritten, it does not wait for write_delay */
#define QUEUE_TOO_MUCH 2u /* nor does it give way to workers */
/* Give what a worker selected to an endpoint; takes the chunk. false: it was lost. @threads Worker. */
bool queue_push(struct endpoint *e, struct chunk *c);
bool queue_must_wait(const struct endpoint *e); /* [lock] stop_publishers, and there is no room */
bool queue_has_room(const struct endpoint *e); /* [lock] what is pushed is neither lost nor too much */
void queue_hold(struct held *h, uint64_t ticket); /* [lock] until what was pushed so far is safe */
void held_add(struct held **first, struct held **last, struct held *h);
void held_remove(struct held *h);
/* Events behind the last one of the window may come in; moves what is unwritten. [lock] @return whether that was all. */
bool queue_window_unwritten(struct endpoint *e);
void queue_window_add(struct endpoint *e, struct parcel *p); /* [lock] */
void queue_done(struct parcel *p); /* the sender needs it no longer. [lock] */
void queue_done_row(struct webhook *w, int64_t row); /* [lock] to be deleted */
void queue_unstore(struct endpoint *e, uint64_t bytes, uint64_t events); /* [lock] the outbox has them no longer */
bool queue_has(const struct webhook *w, unsigned part); /* [lock] this part of an endpoint's memory, or more, is unwritten */
void queue_sweep(struct webhook *w); /* what is done need not be written. [lock] Keeper, while it writes nothing */
void queue_lose(struct endpoint *e, enum lost_why why, uint64_t events); /* [lock] */
void queue_call_sender(struct webhook *w); /* [lock] */
void queue_room(struct webhook *w);	   /* [lock] workers that wait may go on */
bool queue_sender_may_stop(struct webhook *w); /* [lock] nothing is left in any window */
void queue_job(struct webhook *w, struct job *job);
struct grapnel_event_id queue_new_id(struct webhook *w); /* [lock] for an event that no worker made */
void queue_tell_gap(struct endpoint *e); /* once it goes on: the event that says what was lost. Sender */
bool queue_leave_gaps(struct webhook *w); /* [lock] those of all endpoints, for whoever comes after us. @return whether there were any */
void queue_free(struct webhook *w); /* what is left in the end */
struct parcel *parcel_new(struct endpoint *e, struct chunk *c); /* takes the chunk, also when it fails */
void parcel_free(struct parcel *p);
size_t parcel_cost(const struct parcel *p); /* bytes of memory that it needs */

/* keeper.c */
int keeper_start(struct webhook *w);
void keeper_join(struct webhook *w);
void keeper_call(struct webhook *w); /* [lock] there is something to do, and somebody waits for it */

/* sender.c */
int sender_start(struct webhook *w);
void sender_stop(struct webhook *w);  /* joins its thread; what it has left is the queue's. Not from it. Twice is fine */
void sender_call(void *webhook);      /* look what there is to do; on the loop */
void sender_pump(struct endpoint *e); /* takes what is in its window, and lets all its lanes go */

/* lane.c */
void lane_add(struct lane *l, struct item *it);
void lane_parcel_end(struct parcel *p); /* none of its events is left */
/*
 * Send the next request, if there is one to send and a URL to send it to.
 * @return when to call it again without being asked (monotonic ms); UINT64_MAX: never.
 */
uint64_t lane_go(struct lane *l, uint64_t now_ms);
uint64_t order_key(const struct endpoint *e, const struct record_view *v);

/* url.c */
struct url *url_pick(struct endpoint *e, uint64_t now_ms); /* NULL: all are down */
uint64_t url_next_ms(const struct endpoint *e); /* when the first of them may be tried again; 0: one is up */
void url_failed(struct endpoint *e, struct url *u, uint32_t retry_after_ms, long status, const char *error);
void url_answered(struct endpoint *e, struct url *u, long status, const char *error);

/* request.c */
struct request {
	struct text body;
	struct text head; /* headers, each with its NUL */
	unsigned header_count;
	unsigned own_headers; /* the last of them: for nobody else, wherever a redirect leads */
	const char *content_type;
	uint32_t events;
};
/* Of the first `most` events of the lane, fewer if they are long. false: no memory. */
bool request_make(struct lane *l, uint32_t most, struct request *out);
/* Of one event that is none of a lane's. */
bool request_make_one(struct endpoint *e, const struct record_view *v, struct request *out);
size_t request_token_length(const struct file_text *file); /* of the bearer token that it begins with; 0: there is none */
void request_free(struct request *r);
/* r is to be freed all the same. NULL: no memory. */
struct curl_call *request_send(struct endpoint *e, const struct url *u, struct request *r, curl_answer_fn fn, void *arg);

/* command.c */
int command_run(void *webhook, const struct grapnel_command *command,
    void (*reply)(void *ctx, struct grapnel_str json), void *ctx);
void command_read_paused(struct webhook *w); /* create() */

#endif
