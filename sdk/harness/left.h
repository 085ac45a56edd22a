/* SPDX-License-Identifier: Apache-2.0 */
/* left - threads and descriptors that a plugin leaves in the process. Driver only. */
#ifndef SDK_HARNESS_LEFT_H
#define SDK_HARNESS_LEFT_H

#include "inside.h"

/* Before an instance is made; first: there is none, and now is what a later look is compared with. */
void left_remember(harness *h, bool first);
/* After one is destroyed; last: there is none left, so that what is left is a finding. @return true: threads of it still run, and its code has to stay. */
bool left_report(harness *h, bool last);

#endif
