/* SPDX-License-Identifier: Apache-2.0 */
/* Compiles only while sizes, offsets and values of today's headers are those of every frozen minor. */
#include <grapnel/plugin.h>

#include "layouts.h"

int
main(void)
{
	return 0;
}
