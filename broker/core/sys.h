/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sys - what the broker tells about itself under $SYS/broker, as retained messages, every sys_interval
 *
 * Threads: main.
 */
#ifndef BROKER_CORE_SYS_H
#define BROKER_CORE_SYS_H

struct broker;

int sys_start(struct broker *b);
void sys_stop(struct broker *b); /* also when it was never started */

#endif
