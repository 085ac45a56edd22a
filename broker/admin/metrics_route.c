/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics_route - GET /metrics
 *
 * The workers' counters are atomics: they are read where they are, and no worker is disturbed.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "api.h"
#include "base/metrics.h"
#include "core/broker.h"
#include "core/retain.h"
#include "core/topic_index.h"
#include "metrics_text.h"
#include "net/guard.h"
#include "net/tls_context.h"
#include "net/tls_expiry.h"
#include "plugin/hooks.h"
#include "process.h"
#include "store/batch.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PREFIX "grapnel_"

static void
write_counted(FILE *out, const struct broker *b)
{
	char name[128];

	for (unsigned m = 0; m < METRIC_COUNT; m++) {
		int64_t sum = 0;

		for (unsigned i = 0; i <= b->worker_count; i++) /* with main's */
			sum += metric_get(&b->workers[i]->metrics, (enum metric)m);
		snprintf(name, sizeof(name), PREFIX "%s", metric_rows[m].name);
		metrics_text_one(out, name, metric_rows[m].is_gauge, metric_rows[m].help, sum);
	}
}

static void
write_mailboxes(FILE *out, const struct broker *b)
{
	char number[16];

	metrics_text_begin(out, PREFIX "mailbox_depth", true,
	    "Items in a thread's mailbox that it has not taken yet");
	for (unsigned i = 0; i <= b->worker_count; i++) {
		if (i == b->worker_count)
			snprintf(number, sizeof(number), "main");
		else
			snprintf(number, sizeof(number), "%u", i);
		metrics_text_sample(out, PREFIX "mailbox_depth", "worker", number,
		    worker_mail_depth(b->workers[i]));
	}
}

static void
write_indexes(FILE *out, const struct broker *b)
{
	struct topic_index_stats topics;
	struct retain_stats retained;

	topic_index_stats(b->index, &topics);
	retain_stats(b->retain, &retained);
	metrics_text_one(
	    out, PREFIX "retained_messages", true, "Retained messages", (int64_t)retained.messages);
	metrics_text_one(out, PREFIX "retained_bytes", true, "Bytes of retained messages",
	    (int64_t)retained.bytes);
	metrics_text_one(out, PREFIX "topic_nodes", true, "Nodes of the index of Topic Filters",
	    (int64_t)topics.nodes);
	metrics_text_one(out, PREFIX "topic_index_bytes", true,
	    "Bytes of the index of Topic Filters", (int64_t)topics.bytes);
}

static void
write_memory(FILE *out, const struct broker *b)
{
	const struct overload *o = &b->overload;

	metrics_text_one(out, PREFIX "memory_bytes", true,
	    "Memory in use as it is compared with max_memory: resident, without pages of files",
	    atomic_load(&o->used));
	metrics_text_one(
	    out, PREFIX "memory_limit_bytes", true, "max_memory", (int64_t)atomic_load(&o->limit));
	metrics_text_one(out, PREFIX "overload_level", true,
	    "0: as usual; 1: near max_memory, publishers are slowed down; 2: max_memory is "
	    "reached, "
	    "new connections are refused",
	    overload_level(o));
}

static void
write_guard(FILE *out, const struct broker *b)
{
	struct guard_counts n;

	guard_counts(b->guard, b->main->now_ms, &n);
	metrics_text_one(out, PREFIX "guard_banned", true,
	    "Addresses that are kept out for failed logins", n.banned);
	metrics_text_one(out, PREFIX "guard_watched", true,
	    "Addresses, and user names of addresses, whose failed logins are remembered",
	    n.watched);
	metrics_text_one(
	    out, PREFIX "guard_bans_total", false, "Times an address was banned", (int64_t)n.bans);
	metrics_text_one(out, PREFIX "guard_delayed_total", false,
	    "Logins that had to wait because others like them had failed", (int64_t)n.delayed);
	metrics_text_one(out, PREFIX "logins_failed_total", false,
	    "Logins refused for their credentials, from addresses that are watched",
	    (int64_t)n.failures);
}

static void
write_store(FILE *out, const struct broker *b)
{
	struct store_figures f;

	if (b->store == NULL)
		return;
	store_figures(b->store, &f);
#define STORE(name, gauge, help, value) \
	metrics_text_one(out, PREFIX "store_" name, gauge, help, (int64_t)(value))
	STORE("state", true,
	    "0: good; 1: max_bytes is reached, nothing new is taken in; 2: it cannot be written",
	    store_state(b->store));
	STORE("file_bytes", true, "Size of the database", f.file_bytes);
	STORE("free_bytes", true, "Of it not in use", f.free_bytes);
	STORE("wal_bytes", true, "Written, and not yet moved into the database", f.wal_bytes);
	STORE("max_bytes", true, "max_bytes", store_settings(b->store)->store.max_bytes);
	STORE("segments", true, "Rows of the log that are still needed", f.segments);
	STORE("commits_total", false, "Transactions", f.commits);
	STORE("batches_total", false, "Batches of workers in them", f.batches);
	STORE("messages_total", false, "Messages written", f.records);
	STORE("written_bytes_total", false, "Bytes of the log's rows written", f.written_bytes);
	STORE("failures_total", false, "Transactions that failed and were tried again", f.failures);
	STORE("commit_microseconds_total", false, "Time that all transactions took",
	    f.commit_us_total);
	STORE("commit_microseconds_max", true, "The longest one", f.commit_us_max);
	STORE("read_back_total", false, "Queued messages read back from the disk", f.read_back);
	STORE("damaged_rows", true, "Rows that could not be read since the start", f.damaged);
#undef STORE
}

#define CERT_EXPIRY PREFIX "cert_expiry_seconds"

struct expiries {
	FILE *out;
	int64_t now_s;
	bool begun;
};

static void
write_expiry(const char *listener, const struct tls_certificate *c, void *arg)
{
	struct expiries *x = arg;

	if (!x->begun)
		metrics_text_begin(x->out, CERT_EXPIRY, true,
		    "Seconds until the certificate ends that is shown to clients; negative when it "
		    "has");
	x->begun = true;
	fputs(CERT_EXPIRY "{listener=\"", x->out);
	metrics_text_escape(x->out, listener);
	fputs("\",server_name=\"", x->out);
	metrics_text_escape(x->out, c->server_name);
	fputs("\",file=\"", x->out);
	metrics_text_escape(x->out, c->file);
	fprintf(x->out, "\"} %" PRId64 "\n", c->not_after - x->now_s);
}

/* Under the names that every client library of Prometheus uses. */
static void
write_process(FILE *out, const struct broker *b)
{
	struct process_stats p;

	process_stats(&p);
	metrics_text_begin(
	    out, "process_cpu_seconds_total", false, "Processor time of all threads");
	metrics_text_sample_real(out, "process_cpu_seconds_total", p.cpu_seconds);
	if (p.resident_bytes >= 0) {
		metrics_text_one(out, "process_resident_memory_bytes", true, "Resident memory",
		    p.resident_bytes);
		metrics_text_one(
		    out, "process_virtual_memory_bytes", true, "Virtual memory", p.virtual_bytes);
	}
	if (p.open_fds >= 0)
		metrics_text_one(
		    out, "process_open_fds", true, "Open file descriptors", p.open_fds);
	if (p.max_fds >= 0)
		metrics_text_one(
		    out, "process_max_fds", true, "Limit of open file descriptors", p.max_fds);
	metrics_text_begin(out, "process_start_time_seconds", true,
	    "When the broker started, in seconds since 1970");
	metrics_text_sample_real(out, "process_start_time_seconds", (double)b->started_us / 1e6);
}

static int
write_plugin_line(void *ctx, const char *text)
{
	size_t len = strlen(text);

	fwrite(text, 1, len, ctx);
	if (len == 0 || text[len - 1] != '\n')
		putc('\n', ctx);
	return GRAPNEL_OK;
}

void
route_metrics(struct api_call *call)
{
	struct broker *b = call->broker;
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	bool failed;

	if (out == NULL) {
		api_reply_error(call, 500, "no memory");
		return;
	}
	metrics_text_begin(out, PREFIX "build_info", true, "Always 1; the labels say what runs");
	fprintf(out, PREFIX "build_info{version=\"" PACKAGE_VERSION "\",abi=\"%d.%d\"} 1\n",
	    GRAPNEL_ABI_MAJOR, GRAPNEL_ABI_MINOR);
	metrics_text_one(out, PREFIX "workers", true, "Worker threads", b->worker_count);
	write_counted(out, b);
	write_mailboxes(out, b);
	write_indexes(out, b);
	write_memory(out, b);
	write_guard(out, b);
	write_store(out, b);
	tls_expiry_each(b->listeners, write_expiry,
	    &(struct expiries){ .out = out, .now_s = (int64_t)time(NULL) });
	write_process(out, b);
	failed =
	    b->plugins != NULL && plugins_metrics(b->plugins, write_plugin_line, out) != GRAPNEL_OK;
	failed |= ferror(out) != 0;
	failed |= fclose(out) != 0; /* gives text and len their last values */
	if (failed)
		api_reply_error(call, 500, "no memory");
	else
		api_reply_text(call, 200, "text/plain; version=0.0.4; charset=utf-8",
		    (struct grapnel_str){ text, len });
	free(text);
}
