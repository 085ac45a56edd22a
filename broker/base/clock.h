/* SPDX-License-Identifier: Apache-2.0 */
/* clock - the time, from any thread, without a system call where the kernel lends its clock */
#ifndef BROKER_BASE_CLOCK_H
#define BROKER_BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_ms(void);     /* CLOCK_MONOTONIC: no thread is behind what another one has read before */
int64_t clock_wall_us(void); /* CLOCK_REALTIME */

#endif
