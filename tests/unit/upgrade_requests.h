/* SPDX-License-Identifier: Apache-2.0 */
/* Requests for WebSocket, in pieces, and listeners' sections that they are for. */
#ifndef TESTS_UNIT_UPGRADE_REQUESTS_H
#define TESTS_UNIT_UPGRADE_REQUESTS_H

#include "config/settings.h"

#define HOST "Host: example.org\r\n"
#define UP   "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define VER  "Sec-WebSocket-Version: 13\r\n"
#define KEY  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define SUB  "Sec-WebSocket-Protocol: mqtt\r\n"
#define ALL  HOST UP VER KEY SUB
#define GET  "GET / HTTP/1.1\r\n"
#define END  "\r\n"

static char *origins[] = { (char *)(uintptr_t) "https://example.org",
	(char *)(uintptr_t) "http://localhost:8080" };
static struct listener_settings plain = { .websocket = WEBSOCKET_YES };
static struct listener_settings strict = { .websocket = WEBSOCKET_YES,
	.websocket_path = (char *)(uintptr_t) "/mqtt",
	.websocket_origins = { origins, 2 } };

#endif
