/* SPDX-License-Identifier: Apache-2.0 */
/*
 * process - what the kernel says about this process
 *
 * Threads: main.
 */
#ifndef BROKER_ADMIN_PROCESS_H
#define BROKER_ADMIN_PROCESS_H

#include <stdint.h>

struct process_stats {
	int64_t resident_bytes, virtual_bytes; /* -1: not known */
	int64_t open_fds, max_fds;	       /* -1: not known; no limit */
	double cpu_seconds;		       /* user and system */
};
void process_stats(struct process_stats *out);

#endif
