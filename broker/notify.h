/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify - tell the service manager, as sd_notify(3) does: a datagram to NOTIFY_SOCKET
 *
 * By hand, since libsystemd would be a dependency for one sendto.
 */
#ifndef BROKER_NOTIFY_H
#define BROKER_NOTIFY_H

void notify_service(const char *state); /* "READY=1"; nothing happens when nobody asked for it */

#endif
