/* SPDX-License-Identifier: Apache-2.0 */
#include "net/handshake.h"
static bool
wanted(const struct listener_settings *ls)
{
	(void)ls;
	return false;
}
static enum handshake_status
run(struct handshake *h)
{
	(void)h;
	return HANDSHAKE_DONE;
}
static void
cancel(struct handshake *h)
{
	(void)h;
}
const struct handshake_step handshake_websocket = {
	.wanted = wanted, .run = run, .cancel = cancel
};
