/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine - how much memory this process may have: that of the machine, or less where its control group says so
 *
 * Threads: any; reads files of /proc and /sys/fs/cgroup, so at start-up and reload only.
 */
#ifndef BROKER_CONFIG_MACHINE_H
#define BROKER_CONFIG_MACHINE_H

#include <stdint.h>

/* Bytes. 0: not known. */
uint64_t machine_memory(void);
/*
 * The limit of the control group, as /proc/self/cgroup below `root` ("" for the real one) names it: version 2, or the
 * memory controller of version 1. The lowest one from there up counts. UINT64_MAX: none.
 */
uint64_t machine_cgroup_memory(const char *root);

#endif
