/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log - one line per happening, to stderr, a file or syslog; text or JSON
 *
 * Lines about something an operator or fail2ban may look for carry a stable event name:
 * log_event(LOG_NOTICE, "connect_refused", ...). Everything that came from a peer goes through %-formatted text
 * and is escaped as a whole: control characters and invalid UTF-8 become \xNN, so that a line stays a line.
 *
 * Threads: any; a line is one write(2). Bounded: lines are cut at 4 KiB.
 */
#ifndef BROKER_BASE_LOG_H
#define BROKER_BASE_LOG_H

#include <grapnel/types.h>
#include <stdarg.h>
#include <stdatomic.h>

enum log_format { LOG_TEXT, LOG_JSON };

extern _Atomic int log_level; /* enum grapnel_log_level */

/* to: "stderr", "stdout", "syslog" or a path (opened for appending, mode 0640). GRAPNEL_ESYS with errno: the old target stays. */
int log_configure(int level, enum log_format format, const char *to);
int log_check(const char *to); /* could log_configure write there? Nothing is changed. */
int log_reopen(void); /* after rotation */
void log_close(void); /* at the very end: back to stderr */
bool log_level_from_name(const char *name, int *level); /* error warning notice info debug trace */

void log_write(int level, const char *event, const char *format, ...) __attribute__((format(printf, 3, 4)));
void log_vwrite(int level, const char *event, const char *format, va_list ap) __attribute__((format(printf, 3, 0)));

#define log_at(level, event, ...)                                                              \
	do {                                                                                   \
		if (atomic_load_explicit(&log_level, memory_order_relaxed) >= (level))         \
			log_write((level), (event), __VA_ARGS__);                              \
	} while (0)
#define log_error(...)	 log_at(GRAPNEL_LOG_ERROR, NULL, __VA_ARGS__)
#define log_warning(...) log_at(GRAPNEL_LOG_WARNING, NULL, __VA_ARGS__)
#define log_notice(...)	 log_at(GRAPNEL_LOG_NOTICE, NULL, __VA_ARGS__)
#define log_info(...)	 log_at(GRAPNEL_LOG_INFO, NULL, __VA_ARGS__)
#define log_debug(...)	 log_at(GRAPNEL_LOG_DEBUG, NULL, __VA_ARGS__)
#define log_trace(...)	 log_at(GRAPNEL_LOG_TRACE, NULL, __VA_ARGS__)

/* For "%.*s" of a grapnel_str: printf("%.*s", STR(s)). */
#define STR(s) (int)((s).len > 1024 ? 1024 : (s).len), ((s).data != NULL ? (s).data : "")

/*
 * May one more line about this address be written? A token bucket per address (10 lines, then 1 per second), in a
 * bounded table; *suppressed gets the number of lines left out since the last one that was written. The port of
 * an address does not count, and an IPv6 address counts as its /64. Callers add to METRIC_LOG_SUPPRESSED.
 */
bool log_allowed(const char *address, unsigned *suppressed);
bool log_allowed_at(const char *address, uint64_t now_ms, unsigned *suppressed); /* the same with a given monotonic time */

#endif
