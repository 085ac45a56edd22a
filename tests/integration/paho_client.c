/* SPDX-License-Identifier: Apache-2.0 */
/*
 * paho_client - round trips with the Paho C library
 *
 * paho_client URI VERSION TOPIC COUNT [CA]: for each QoS, subscribe to TOPIC, publish COUNT messages to it and wait
 * for each one. VERSION: 3 (3.1), 4 (3.1.1) or 5. CA: for ssl:// URIs. Prints "ok"; else what went wrong, exit code 1.
 */
#include <MQTTClient.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MS 10000

static int
fail(const char *what, int code)
{
	(void)fprintf(stderr, "paho_client: %s: %d %s\n", what, code,
	    MQTTClient_strerror(code) != NULL ? MQTTClient_strerror(code) : "");
	return 1;
}

static int
client_connect(MQTTClient client, int version, const char *ca)
{
	MQTTClient_SSLOptions tls = MQTTClient_SSLOptions_initializer;
	MQTTClient_connectOptions old = MQTTClient_connectOptions_initializer;
	MQTTClient_connectOptions new = MQTTClient_connectOptions_initializer5;
	MQTTResponse response;
	int code;

	tls.trustStore = ca;
	tls.verify = 1;
	if (version == MQTTVERSION_5) {
		new.cleanstart = 1;
		new.ssl = ca != NULL ? &tls : NULL;
		response = MQTTClient_connect5(client, &new, NULL, NULL);
		code = response.reasonCode;
		MQTTResponse_free(response);
		return code;
	}
	old.cleansession = 1;
	old.ssl = ca != NULL ? &tls : NULL;
	old.MQTTVersion = version;
	return MQTTClient_connect(client, &old);
}

static int
subscribe(MQTTClient client, int version, const char *topic, int qos)
{
	MQTTResponse response;
	int code;

	if (version != MQTTVERSION_5)
		return MQTTClient_subscribe(client, topic, qos);
	response = MQTTClient_subscribe5(client, topic, qos, NULL, NULL);
	code = response.reasonCode;
	MQTTResponse_free(response);
	return code == qos ? 0 : code;
}

static int
publish(MQTTClient client, int version, const char *topic, int qos, int number)
{
	MQTTClient_message message = MQTTClient_message_initializer;
	MQTTClient_deliveryToken token;
	MQTTResponse response;
	char text[32];
	int code;

	message.payload = text;
	message.payloadlen = snprintf(text, sizeof(text), "%d %d", qos, number);
	message.qos = qos;
	if (version != MQTTVERSION_5)
		return MQTTClient_publishMessage(client, topic, &message, &token);
	response = MQTTClient_publishMessage5(client, topic, &message, &token);
	code = response.reasonCode;
	MQTTResponse_free(response);
	return code;
}

static int
receive(MQTTClient client, const char *topic, int qos, int number)
{
	MQTTClient_message *message = NULL;
	char wanted[32], *name = NULL;
	int len, code, good, size = snprintf(wanted, sizeof(wanted), "%d %d", qos, number);

	code = MQTTClient_receive(client, &name, &len, &message, WAIT_MS);
	if (message == NULL)
		return fail("nothing came", code);
	good = message->qos == qos && message->payloadlen == size &&
	    memcmp(message->payload, wanted, (size_t)size) == 0 && strcmp(name, topic) == 0;
	if (!good)
		(void)fprintf(stderr,
		    "paho_client: %s: \"%.*s\" of QoS %d came instead of \"%s\"\n", name,
		    message->payloadlen, (const char *)message->payload, message->qos, wanted);
	MQTTClient_freeMessage(&message);
	MQTTClient_free(name);
	return good ? 0 : 1;
}

static int
round_trips(MQTTClient client, int version, const char *topic, int count)
{
	int code;

	for (int qos = 0; qos <= 2; qos++) {
		if ((code = subscribe(client, version, topic, qos)) != MQTTCLIENT_SUCCESS)
			return fail("subscribe", code);
		/* One by one: this API handles acknowledgements only while it waits for something. */
		for (int i = 0; i < count; i++) {
			if ((code = publish(client, version, topic, qos, i)) != MQTTCLIENT_SUCCESS)
				return fail("publish", code);
			if (receive(client, topic, qos, i) != 0)
				return 1;
		}
	}
	return 0;
}

int
main(int argc, char **argv)
{
	MQTTClient_createOptions options = MQTTClient_createOptions_initializer;
	int version, count, code;
	MQTTClient client;

	if (argc != 5 && argc != 6) {
		(void)fputs("usage: paho_client URI 3|4|5 TOPIC COUNT [CA]\n", stderr);
		return 2;
	}
	version = (int)strtol(argv[2], NULL, 10);
	count = (int)strtol(argv[4], NULL, 10);
	options.MQTTVersion = version;
	code = MQTTClient_createWithOptions(
	    &client, argv[1], argv[3], MQTTCLIENT_PERSISTENCE_NONE, NULL, &options);
	if (code != MQTTCLIENT_SUCCESS)
		return fail("create", code);
	if ((code = client_connect(client, version, argv[5])) != 0)
		code = fail("connect", code);
	else if ((code = round_trips(client, version, argv[3], count)) == 0)
		(void)puts("ok");
	(void)MQTTClient_disconnect(client, 1000);
	MQTTClient_destroy(&client);
	return code;
}
