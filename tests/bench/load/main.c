/* SPDX-License-Identifier: Apache-2.0 */
/* The command line. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

const char *const scenario_names[SCENARIOS] = { "pairs", "fanin", "fanout", "wild", "conn",
	"connstorm", "retained", "offline" };

struct config cfg = {
	.host = "127.0.0.1",
	.port = 1883,
	.proto = 4,
	.sub_qos = SAME_QOS,
	.keepalive = 60,
	.topics = 1,
	.filters = 1000,
	.conns = 1000,
	.size = PAYLOAD_MIN,
	.threads = 1,
	.window = 100,
	.batch = 64,
	.ramp = 64,
	.credit = 20000,
	.timeout = 60,
	.drain = 3,
	.hold = 1,
};
struct sockaddr_in server;
SSL_CTX *tls_ctx;

static void __attribute__((noreturn)) usage(void)
{
	fputs("usage: mqttload -s SCENARIO [options]\n"
	      "  scenarios: pairs fanin fanout wild conn connstorm retained offline\n"
	      "  -h HOST -p PORT         broker, an IPv4 address (127.0.0.1:1883)\n"
	      "  --proto 4|5             MQTT 3.1.1 or 5.0 (4)\n"
	      "  --pubs N --subs N       publishers, subscribers\n"
	      "  --topics N              topics per publisher (1)\n"
	      "  --filters N             wild: filters over all subscribers (1000)\n"
	      "  --exact                 wild: filters without wildcards\n"
	      "  --conns N               conn: idle connections; connstorm: at a time (1000)\n"
	      "  --qos Q --sub-qos Q     publish QoS (0); subscribe QoS (the same)\n"
	      "  --size N                payload bytes, at least 16 (16)\n"
	      "  --count N               messages over all publishers; connstorm: connections\n"
	      "  --rate N                messages per second over all publishers (0: full speed)\n"
	      "  --duration S            seconds, instead of --count\n"
	      "  --window N              unacknowledged QoS > 0 messages per publisher (100)\n"
	      "  --credit N              undelivered messages at full speed (20000; 0: no bound)\n"
	      "  --batch N               messages per write at full speed (64)\n"
	      "  --ramp N                connections opened at once, per thread (64)\n"
	      "  --threads N             generator threads (1)\n"
	      "  --persist               subscribers keep their sessions\n"
	      "  --leave                 offline: they do not come back for their messages\n"
	      "  --resume                offline: they do, for those of a run with --leave\n"
	      "  --hold S                conn: stay connected so long before measuring (1)\n"
	      "  --keepalive S --user U --pass P --retain --verify\n"
	      "  --user-each             a number behind the user name, for each connection another\n"
	      "  --timeout S --drain S   give up after (60); when nothing moved for (3)\n"
	      "  --pid PID               the broker's process: prints its CPU and memory use\n"
	      "  --tls --cafile FILE     TLS, not verified without a CA file\n"
	      "  --json --quiet --label TEXT   one JSON line; only that; a name in it\n",
	    stderr);
	exit(1);
}

/* Where the value of an option goes, and between what it must be. */
enum kind { TEXT, FLAG, U32, U64, SECONDS };
static const struct row {
	const char *name;
	enum kind kind;
	void *at;
	uint64_t min, max;
} rows[] = {
	{ "batch", U32, &cfg.batch, 1, 1000000 },
	{ "cafile", TEXT, &cfg.cafile, 0, 0 },
	{ "conns", U32, &cfg.conns, 1, 5000000 },
	{ "count", U64, &cfg.count, 1, UINT32_MAX },
	{ "credit", U64, &cfg.credit, 0, 1000000000 },
	{ "drain", SECONDS, &cfg.drain, 1, 100000 },
	{ "duration", SECONDS, &cfg.duration, 1, 100000 },
	{ "exact", FLAG, &cfg.exact, 0, 0 },
	{ "filters", U32, &cfg.filters, 1, 1000000 },
	{ "hold", SECONDS, &cfg.hold, 0, 100000 },
	{ "host", TEXT, &cfg.host, 0, 0 },
	{ "json", FLAG, &cfg.json, 0, 0 },
	{ "keepalive", U32, &cfg.keepalive, 0, 65535 },
	{ "label", TEXT, &cfg.label, 0, 0 },
	{ "leave", FLAG, &cfg.leave, 0, 0 },
	{ "pass", TEXT, &cfg.pass, 0, 0 },
	{ "persist", FLAG, &cfg.persist, 0, 0 },
	{ "pid", U32, &cfg.pid, 1, 1u << 30 },
	{ "port", U32, &cfg.port, 1, 65535 },
	{ "proto", U32, &cfg.proto, 4, 5 },
	{ "pubs", U32, &cfg.pubs, 1, 100000 },
	{ "qos", U32, &cfg.qos, 0, 2 },
	{ "quiet", FLAG, &cfg.quiet, 0, 0 },
	{ "ramp", U32, &cfg.ramp, 1, 100000 },
	{ "rate", U64, &cfg.rate, 0, 1000000000 },
	{ "resume", FLAG, &cfg.resume, 0, 0 },
	{ "retain", FLAG, &cfg.retain, 0, 0 },
	{ "size", U32, &cfg.size, PAYLOAD_MIN, 100000 },
	{ "sub-qos", U32, &cfg.sub_qos, 0, 2 },
	{ "subs", U32, &cfg.subs, 1, 100000 },
	{ "threads", U32, &cfg.threads, 1, MAX_THREADS },
	{ "timeout", SECONDS, &cfg.timeout, 1, 100000 },
	{ "tls", FLAG, &cfg.tls, 0, 0 },
	{ "topics", U32, &cfg.topics, 1, 1000000 },
	{ "user", TEXT, &cfg.user, 0, 0 },
	{ "user-each", FLAG, &cfg.user_each, 0, 0 },
	{ "verify", FLAG, &cfg.verify, 0, 0 },
	{ "window", U32, &cfg.window, 1, 65535 },
};
#define ROWS (sizeof(rows) / sizeof(*rows))

static uint64_t
number(const char *text, const struct row *row)
{
	unsigned long long v;
	char *end;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno != 0 || *end != '\0' || end == text || *text == '-' || v < row->min ||
	    v > row->max)
		die("--%s: not a number from %llu to %llu: %s", row->name,
		    (unsigned long long)row->min, (unsigned long long)row->max, text);
	return v;
}

static void
set(const struct row *row, const char *text)
{
	switch (row->kind) {
	case TEXT:
		*(const char **)row->at = text;
		break;
	case FLAG:
		*(bool *)row->at = true;
		break;
	case U32:
		*(uint32_t *)row->at = (uint32_t)number(text, row);
		break;
	case U64:
		*(uint64_t *)row->at = number(text, row);
		break;
	case SECONDS:
		*(double *)row->at = (double)number(text, row);
		break;
	}
}

static const struct row *
row_named(const char *name)
{
	for (size_t i = 0; i < ROWS; i++)
		if (strcmp(rows[i].name, name) == 0)
			return &rows[i];
	usage();
}

static void
parse(int argc, char **argv)
{
	struct option longs[ROWS + 2] = { { "scenario", required_argument, NULL, 's' } };
	int o, scenario = -1;

	for (size_t i = 0; i < ROWS; i++)
		longs[i + 1] = (struct option){ rows[i].name,
			rows[i].kind == FLAG ? no_argument : required_argument, NULL,
			256 + (int)i };
	while ((o = getopt_long(argc, argv, "s:h:p:", longs, NULL)) != -1) {
		if (o == 's') {
			for (int i = 0; i < SCENARIOS; i++)
				if (strcmp(optarg, scenario_names[i]) == 0)
					scenario = i;
			if (scenario < 0)
				usage();
		} else if (o == 'h' || o == 'p') {
			set(row_named(o == 'h' ? "host" : "port"), optarg);
		} else if (o >= 256) {
			set(&rows[o - 256], optarg);
		} else {
			usage();
		}
	}
	if (scenario < 0 || optind != argc)
		usage();
	cfg.sc = (enum scenario)scenario;
	cfg.json |= cfg.quiet;
}

/* What was not said, and what a scenario fixes. */
static void
complete(void)
{
	if (cfg.sub_qos == SAME_QOS)
		cfg.sub_qos = cfg.sc == SC_RETAINED ? 0 : cfg.qos;
	if (cfg.pubs == 0)
		cfg.pubs = cfg.sc == SC_PAIRS || cfg.sc == SC_FANIN ? 50 : 1;
	if (cfg.subs == 0)
		cfg.subs = cfg.sc == SC_FANOUT ? 500 : cfg.sc == SC_WILD ? 100 : 1;
	switch (cfg.sc) {
	case SC_PAIRS:
		cfg.subs = cfg.pubs;
		break;
	case SC_FANIN:
		cfg.subs = 1;
		break;
	case SC_FANOUT:
		cfg.pubs = 1;
		break;
	case SC_WILD:
		if (cfg.subs > cfg.filters)
			cfg.subs = cfg.filters;
		cfg.filters -= cfg.filters % cfg.subs; /* the same number each */
		break;
	case SC_OFFLINE:
		if (cfg.qos == 0)
			cfg.qos = 1, cfg.sub_qos = 1;
		break;
	case SC_CONN:
	case SC_STORM:
	case SC_RETAINED:
		break;
	}
	if (cfg.rate > 0 && cfg.duration > 0)
		cfg.count = (uint64_t)(cfg.duration * (double)cfg.rate);
	if (cfg.count == 0 && cfg.duration <= 0)
		cfg.count = cfg.sc == SC_STORM ? 20000 : 100000;
	if (cfg.sc == SC_RETAINED || cfg.sc == SC_OFFLINE)
		cfg.duration = 0;
	if (cfg.sc == SC_RETAINED && cfg.count > 1000000)
		die("retained: at most 1000000 topics");
}

static void
take_descriptors(void)
{
	uint64_t need = 32 +
	    (cfg.sc == SC_CONN || cfg.sc == SC_STORM ? cfg.conns : (uint64_t)cfg.pubs + cfg.subs);
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < need)
		die("%llu descriptors needed, the limit is %llu (ulimit -n)",
		    (unsigned long long)need, (unsigned long long)limit.rlim_cur);
}

static void
prepare_tls(void)
{
	tls_ctx = SSL_CTX_new(TLS_client_method());
	if (tls_ctx == NULL)
		die("no TLS context");
	SSL_CTX_set_mode(tls_ctx,
	    SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
		SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(tls_ctx, SSL_SESS_CACHE_OFF);
	if (cfg.cafile == NULL)
		return;
	if (SSL_CTX_load_verify_locations(tls_ctx, cfg.cafile, NULL) != 1)
		die("cannot load %s", cfg.cafile);
	SSL_CTX_set_verify(tls_ctx, SSL_VERIFY_PEER, NULL);
}

int
main(int argc, char **argv)
{
	int rc;

	parse(argc, argv);
	complete();
	server.sin_family = AF_INET;
	server.sin_port = htons((uint16_t)cfg.port);
	if (inet_pton(AF_INET, cfg.host, &server.sin_addr) != 1)
		die("not an IPv4 address: %s", cfg.host);
	(void)signal(SIGPIPE, SIG_IGN);
	take_descriptors();
	if (cfg.tls)
		prepare_tls();
	nflows_total = cfg.sc == SC_WILD ? cfg.pubs * cfg.subs : cfg.pubs;
	sent_in_flow = xcalloc(nflows_total, sizeof(*sent_in_flow));

	json_add("{\"label\":\"%s\",\"scenario\":\"%s\",\"proto\":%u,\"qos\":%u,\"size\":%u,"
		 "\"pubs\":%u,\"subs\":%u,\"rate\":%llu,\"batch\":%u,\"tls\":%s",
	    cfg.label != NULL ? cfg.label : "", scenario_names[cfg.sc], cfg.proto, cfg.qos,
	    cfg.size, cfg.pubs, cfg.subs, (unsigned long long)cfg.rate, cfg.batch,
	    cfg.tls ? "true" : "false");
	if (cfg.sc == SC_WILD)
		json_num("filters", cfg.filters);
	say("%s: MQTT %s, QoS %u, %u bytes, %u publisher(s), %u subscriber(s)\n",
	    scenario_names[cfg.sc], cfg.proto == 5 ? "5.0" : "3.1.1", cfg.qos, cfg.size, cfg.pubs,
	    cfg.subs);
	rc = scenario_run();
	json_num("exit", rc);
	json_print();
	return rc;
}
