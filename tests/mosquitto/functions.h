/* SPDX-License-Identifier: Apache-2.0 */
/* functions - the functions that a Mosquitto plugin can call, tried. On the thread that calls the plugin. */
#ifndef TESTS_MOSQUITTO_FUNCTIONS_H
#define TESTS_MOSQUITTO_FUNCTIONS_H

#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

#define FUNCTIONS_CONTROL "$CONTROL/plain/v1" /* has a callback already */

void functions_check(mosquitto_plugin_id_t *self);
/* MOSQ_ERR_PLUGIN_DEFER, of whatever. */
int functions_no_callback(int event, void *event_data, void *userdata);

#endif
