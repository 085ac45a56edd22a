/* SPDX-License-Identifier: Apache-2.0 */
/* left - threads and descriptors that a plugin leaves in the process. Driver only. */
#ifndef SDK_HARNESS_LEFT_H
#define SDK_HARNESS_LEFT_H

#include "inside.h"

/* Before the first instance is made: what there is. */
void left_remember(harness *h, bool first);
/* After the last one is destroyed: findings. @return true: threads of it still run, and its code has to stay. */
bool left_report(harness *h, bool last);

#endif
