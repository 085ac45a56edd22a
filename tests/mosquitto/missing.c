/* SPDX-License-Identifier: Apache-2.0 */
/* Mosquitto plugins that cannot be loaded: one needs a function that is not there, one is of a version that nobody has. */
#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

#ifdef MISSING_FUNCTION
int mosquitto_persist_everything(void);
#endif

int
mosquitto_plugin_version(int supported_version_count, const int *supported_versions)
{
	(void)supported_version_count;
	(void)supported_versions;
#ifdef MISSING_FUNCTION
	return mosquitto_persist_everything();
#else
	return 77;
#endif
}
