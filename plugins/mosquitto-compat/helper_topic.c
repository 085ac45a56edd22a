/* SPDX-License-Identifier: Apache-2.0 */
/* helper_topic - Topic Names and Topic Filters, as Mosquitto's plugins check and match them. MQTT 5.0 section 4.7 */
#include "helper_functions.h"

#include "../common/utf8.h"

#include <string.h>

#define TOPIC_MAX 65535u

int
mosquitto_pub_topic_check2(const char *topic, size_t topiclen)
{
	if (topic == NULL || topiclen > TOPIC_MAX)
		return MOSQ_INVAL;
	return memchr(topic, '+', topiclen) == NULL && memchr(topic, '#', topiclen) == NULL
	    ? MOSQ_SUCCESS
	    : MOSQ_INVAL;
}

int
mosquitto_pub_topic_check(const char *topic)
{
	return topic != NULL ? mosquitto_pub_topic_check2(topic, strlen(topic)) : MOSQ_INVAL;
}

int
mosquitto_sub_topic_check2(const char *topic, size_t topiclen)
{
	if (topic == NULL || topiclen > TOPIC_MAX)
		return MOSQ_INVAL;
	for (size_t i = 0; i < topiclen; i++) {
		bool begins = i == 0 || topic[i - 1] == '/';
		bool ends = i + 1 == topiclen || topic[i + 1] == '/';

		if (topic[i] == '+' && (!begins || !ends))
			return MOSQ_INVAL;
		if (topic[i] == '#' && (!begins || i + 1 < topiclen))
			return MOSQ_INVAL;
	}
	return MOSQ_SUCCESS;
}

int
mosquitto_sub_topic_check(const char *topic)
{
	return topic != NULL ? mosquitto_sub_topic_check2(topic, strlen(topic)) : MOSQ_INVAL;
}

/* The end of the level that begins at `at`. */
static size_t
level_end(const char *text, size_t len, size_t at)
{
	const char *slash = at < len ? memchr(text + at, '/', len - at) : NULL;

	return slash != NULL ? (size_t)(slash - text) : len;
}

static bool
matches(const char *sub, size_t sub_len, const char *topic, size_t topic_len)
{
	size_t s = 0, t = 0;

	if ((sub[0] == '$') != (topic[0] == '$')) /* [MQTT-4.7.2-1] */
		return false;
	for (;;) {
		size_t s_end = level_end(sub, sub_len, s), t_end = level_end(topic, topic_len, t);
		bool one = s_end - s == 1;

		if (one && sub[s] == '#')
			return true;
		if (!(one && sub[s] == '+') &&
		    (s_end - s != t_end - t || memcmp(sub + s, topic + t, s_end - s) != 0))
			return false;
		if (t_end == topic_len) /* "a/#" matches "a", too */
			return s_end == sub_len || (sub_len - s_end == 2 && sub[s_end + 1] == '#');
		if (s_end == sub_len)
			return false;
		s = s_end + 1;
		t = t_end + 1;
	}
}

int
mosquitto_topic_matches_sub2(
    const char *sub, size_t sublen, const char *topic, size_t topiclen, bool *result)
{
	if (result == NULL)
		return MOSQ_INVAL;
	*result = false;
	if (sub == NULL || topic == NULL || sublen == 0 || topiclen == 0)
		return MOSQ_INVAL;
	if (mosquitto_sub_topic_check2(sub, sublen) != MOSQ_SUCCESS ||
	    mosquitto_pub_topic_check2(topic, topiclen) != MOSQ_SUCCESS)
		return MOSQ_INVAL;
	*result = matches(sub, sublen, topic, topiclen);
	return MOSQ_SUCCESS;
}

int
mosquitto_topic_matches_sub(const char *sub, const char *topic, bool *result)
{
	return mosquitto_topic_matches_sub2(
	    sub, sub != NULL ? strlen(sub) : 0, topic, topic != NULL ? strlen(topic) : 0, result);
}

int
mosquitto_validate_utf8(const char *str, int len)
{
	struct grapnel_str s = { str, (size_t)len };

	if (str == NULL || len < 0 || len > 65536)
		return MOSQ_INVAL;
	/* No control characters, and no U+FFFE and U+FFFF of any plane, as in Mosquitto. */
	if (!utf8_is_text(s, false))
		return MOSQ_MALFORMED_UTF8;
	for (int i = 0; i + 2 < len; i++) {
		const unsigned char *p = (const unsigned char *)str + i;

		if (p[0] == 0xef && p[1] == 0xbf && p[2] >= 0xbe)
			return MOSQ_MALFORMED_UTF8;
		if (i + 3 < len && p[0] >= 0xf0 && (p[1] & 0x0f) == 0x0f && p[2] == 0xbf &&
		    p[3] >= 0xbe)
			return MOSQ_MALFORMED_UTF8;
	}
	return MOSQ_SUCCESS;
}
