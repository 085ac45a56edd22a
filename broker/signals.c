/* SPDX-License-Identifier: Apache-2.0 */
#include "signals.h"
#include <event2/event.h>
#include <grapnel/types.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

static const int handled[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1 };
#define HANDLED (sizeof(handled) / sizeof(handled[0]))

struct signals {
	void (*fn)(int signum, void *arg);
	void *arg;
	struct event *events[HANDLED];
};

static volatile sig_atomic_t late_exit_code;

static void
on_signal(evutil_socket_t signum, short what, void *arg)
{
	struct signals *sig = arg;

	(void)what;
	sig->fn(signum, sig->arg);
}

static void
die(const char *text, size_t len, int code)
{
	ssize_t n = write(STDERR_FILENO, text, len);

	(void)n;
	_exit(code);
}

static void
on_second_term(int signum)
{
	static const char text[] = "grapneld: asked to stop again: stopping at once\n";

	(void)signum;
	die(text, sizeof(text) - 1, 1);
}

static void
on_alarm(int signum)
{
	static const char text[] =
	    "grapneld: something (a plugin, a disk) holds up the end: stopping without it\n";

	(void)signum;
	die(text, sizeof(text) - 1, late_exit_code);
}

void
signals_ignore_pipe(void)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	(void)sigaction(SIGPIPE, &ignore, NULL);
}

int
signals_new(
    struct event_base *base, void (*fn)(int signum, void *arg), void *arg, struct signals **out)
{
	struct signals *sig = calloc(1, sizeof(*sig));

	if (sig == NULL)
		return GRAPNEL_ENOMEM;
	sig->fn = fn;
	sig->arg = arg;
	for (size_t i = 0; i < HANDLED; i++) {
		sig->events[i] = evsignal_new(base, handled[i], on_signal, sig);
		if (sig->events[i] == NULL || event_add(sig->events[i], NULL) != 0) {
			signals_free(sig);
			return GRAPNEL_ENOMEM;
		}
	}
	signals_ignore_pipe();
	*out = sig;
	return GRAPNEL_OK;
}

void
signals_free(struct signals *sig)
{
	if (sig == NULL)
		return;
	for (size_t i = 0; i < HANDLED; i++)
		if (sig->events[i] != NULL)
			event_free(sig->events[i]);
	free(sig);
}

void
signals_stopping(struct signals *sig, unsigned timeout_ms, int exit_code)
{
	struct sigaction term = { .sa_handler = on_second_term },
			 alarm = { .sa_handler = on_alarm };
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct itimerval timer = { .it_value = { timeout_ms / 1000,
				       (suseconds_t)(timeout_ms % 1000) * 1000 } };

	for (size_t i = 0; i < HANDLED; i++) {
		(void)event_del(sig->events[i]);
		(void)sigaction(handled[i],
		    handled[i] == SIGTERM || handled[i] == SIGINT ? &term : &ignore, NULL);
	}
	late_exit_code = exit_code;
	(void)sigaction(SIGALRM, &alarm, NULL);
	(void)setitimer(ITIMER_REAL, &timer, NULL);
}
