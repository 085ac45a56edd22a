/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topic - Topic Names and Topic Filters as text.  MQTT 5.0 section 4.7
 *
 * Pure. "Well-formed" assumes the bytes are valid UTF-8 already.
 */
#ifndef BROKER_MQTT_TOPIC_H
#define BROKER_MQTT_TOPIC_H

#include <grapnel/types.h>

bool topic_name_valid(struct grapnel_str topic_name); /* not empty, no '+', '#', U+0000 [MQTT-3.3.2-2] [MQTT-4.7.3-1] */
/*
 * A Topic Filter, $share/ShareName/filter included: ShareName not empty, no '/', '+', '#' [MQTT-4.8.2-1]
 * [MQTT-4.8.2-2], a filter behind it. share and rest may be NULL.
 */
bool topic_filter_valid(struct grapnel_str filter, struct grapnel_str *share, struct grapnel_str *rest);
bool topic_has_wildcard(struct grapnel_str filter);
unsigned topic_levels(struct grapnel_str topic); /* separators + 1 */
/* Does filter (no $share) match topic_name? $-topics are not matched by a leading wildcard [MQTT-4.7.2-1]. */
bool topic_matches(struct grapnel_str filter, struct grapnel_str topic_name);
/* Does every topic that `narrow` matches match `wide` too? ("covers") */
bool topic_filter_covers(struct grapnel_str wide, struct grapnel_str narrow);
/* Is there a topic that both match? ("intersects") */
bool topic_filters_intersect(struct grapnel_str a, struct grapnel_str b);

#endif
