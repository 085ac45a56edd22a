/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acl_build - how rule sets are laid out, and the builder that both grammars use
 *
 * Private to acl*.c. All text lives in one pool, so that 10,000 users cost a few allocations;
 * offsets into it survive its growth. A filter is a run of ops: literal bytes ('/' among them),
 * values filled in at the check, and wildcards.
 */
#ifndef BROKER_CORE_ACL_BUILD_H
#define BROKER_CORE_ACL_BUILD_H

#include "acl.h"

#include <stdatomic.h>

enum acl_op_kind {
	ACL_OP_TEXT,	  /* pool[at, at+len) */
	ACL_OP_USERNAME,  /* %u */
	ACL_OP_CLIENT_ID, /* %c */
	ACL_OP_ATTRIBUTE, /* %{pool[at, at+len)} */
	ACL_OP_PLUS,	  /* one level */
	ACL_OP_REST,	  /* a final "/#": the parent level, or '/' and anything */
	ACL_OP_ALL,	  /* "#" alone */
};

struct acl_op {
	uint32_t kind, at, len;
};

enum acl_action {
	ACL_PUBLISH = 1u << 0,
	ACL_SUBSCRIBE = 1u << 1,
	ACL_READ = 1u << 2,
};

enum acl_subject_kind {
	ACL_EVERYONE,
	ACL_ANONYMOUS, /* no user name */
	ACL_USER,
	ACL_CLIENT,
};
#define ACL_SUBJECT_EVERYONE  0u
#define ACL_SUBJECT_ANONYMOUS 1u

struct acl_subject {
	uint32_t kind, name, name_len; /* name in the pool */
	uint32_t first, count;	       /* in order[]: its rules, in their order */
};

struct acl_rule {
	uint32_t first_op, op_count;
	uint32_t label, label_len; /* "source:line" in the pool */
	uint32_t subject;
	uint8_t actions; /* enum acl_action */
	uint8_t max_qos;
	bool deny;
	bool no_retain;
	uint8_t rank; /* rules are sorted by it, and by their place in the text */
};

struct grapnel_rules {
	_Atomic uint32_t refs;
	bool mosquitto;
	char *pool;
	struct acl_op *ops;
	struct acl_rule *rules;
	struct acl_subject *subjects; /* the two nameless ones first */
	uint32_t *order;	      /* indexes of rules, grouped by subject */
	uint32_t *slots;	      /* open addressing: index of a subject + 1; 0: free */
	uint32_t pool_len, pool_size, op_count, op_size, rule_count, rule_size;
	uint32_t subject_count, subject_size, slot_mask;
};

struct acl_builder {
	struct grapnel_rules *out;
	struct grapnel_str source;
	size_t line;
	char *error;
	size_t error_size;
};

/* What % means in a filter. */
enum acl_substitution {
	ACL_SUBST_NONE,	     /* itself */
	ACL_SUBST_MOSQUITTO, /* %u and %c; any other is itself */
	ACL_SUBST_GRAPNEL,   /* %u, %c, %{name}, %%; any other is an error */
};

/* All return false once b->error was filled in. */
bool acl_fail(struct acl_builder *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The index of a subject, made if need be. */
bool acl_build_subject(
    struct acl_builder *b, enum acl_subject_kind kind, struct grapnel_str name, uint32_t *index);
/* Append a rule; its filter and label members are filled in here, the rest is the caller's. */
bool acl_build_rule(struct acl_builder *b, struct acl_rule rule, struct grapnel_str filter,
    enum acl_substitution substitution);

/* Text as it can stand in a message: printable, cut. Returns out. */
#define ACL_SHOWN 64
const char *acl_shown(char out[ACL_SHOWN], struct grapnel_str text);

/* The next line, without its end ("\n" or "\r\n"); false: no more. */
bool acl_next_line(struct acl_builder *b, struct grapnel_str *rest, struct grapnel_str *line);

bool acl_parse_grapnel(struct acl_builder *b, struct grapnel_str text);
bool acl_parse_mosquitto(struct acl_builder *b, struct grapnel_str text);

/* The subject of that name, or NULL. */
const struct acl_subject *acl_subject_find(
    const struct grapnel_rules *rules, enum acl_subject_kind kind, struct grapnel_str name);

#endif
