/* SPDX-License-Identifier: MIT-0 */
/*
 * layout - prints what the C headers say about sizes, offsets and numbers as Rust code that does not compile when grapnel.rs says
 * otherwise:
 *
 *	cc $(pkg-config --cflags grapnel) -o layout layout.c && ./layout >layout.rs
 *	rustc --edition 2021 --crate-type lib --emit metadata -o layout.rmeta layout.rs
 *
 * layout.rs looks for grapnel.rs in its own folder; an argument names another place.
 */
#include <grapnel/plugin.h>

#include <stdio.h>

#define SIZE(c, rust)                                                                \
	printf("const _: () = assert!(core::mem::size_of::<" #rust ">() == %zu);\n", \
	    sizeof(struct c))
/* The last one: the name that the member has in Rust. */
#define AT_AS(c, rust, member, theirs)                                               \
	printf("const _: () = assert!(core::mem::offset_of!(" #rust ", " #theirs     \
	       ") == %zu && member_size(|s: &" #rust "| &s." #theirs ") == %zu);\n", \
	    offsetof(struct c, member), sizeof(((struct c *)NULL)->member))
#define AT(c, rust, member) AT_AS(c, rust, member, member)
#define NUMBER(prefix, name) \
	printf("const _: () = assert!(" #name " as i64 == %lld);\n", (long long)prefix##name)

static void
print_numbers(void)
{
	NUMBER(GRAPNEL_, ABI_MAJOR);
	NUMBER(GRAPNEL_, ABI_MINOR);
	NUMBER(GRAPNEL_, PLUGIN_MAGIC);
	NUMBER(GRAPNEL_, OK);
	NUMBER(GRAPNEL_, ENOMEM);
	NUMBER(GRAPNEL_, EINVAL);
	NUMBER(GRAPNEL_, ALLOW);
	NUMBER(GRAPNEL_, DENY);
	NUMBER(GRAPNEL_, NEXT);
	NUMBER(GRAPNEL_, UNAVAILABLE);
	NUMBER(GRAPNEL_, OPTION_INT);
	NUMBER(GRAPNEL_, OPTION_BOOL);
	NUMBER(GRAPNEL_, OPTION_LIST);
	NUMBER(GRAPNEL_, COUNTER);
	NUMBER(GRAPNEL_, LOG_NOTICE);
}

static void
print_questions(void)
{
	SIZE(grapnel_str, Str);
	AT(grapnel_str, Str, data);
	AT(grapnel_str, Str, len);
	AT(grapnel_client_info, ClientInfo, size);
	AT(grapnel_client_info, ClientInfo, client);
	AT(grapnel_client_info, ClientInfo, client_id);
	AT(grapnel_client_info, ClientInfo, username);
	AT(grapnel_client_info, ClientInfo, listener);
	AT(grapnel_authenticate, Authenticate, size);
	AT(grapnel_authenticate, Authenticate, client);
	SIZE(grapnel_auth_answer, AuthAnswer);
	AT(grapnel_auth_answer, AuthAnswer, reason_code);
	AT(grapnel_auth_answer, AuthAnswer, more);
	AT(grapnel_auth_answer, AuthAnswer, superuser);
	AT(grapnel_auth_answer, AuthAnswer, no_store);
	AT(grapnel_auth_answer, AuthAnswer, cache_ttl_ms);
	AT(grapnel_auth_answer, AuthAnswer, reason_string);
	AT(grapnel_auth_answer, AuthAnswer, username);
	AT(grapnel_auth_answer, AuthAnswer, mountpoint);
	AT(grapnel_auth_answer, AuthAnswer, data);
	AT(grapnel_auth_answer, AuthAnswer, server_reference);
	AT(grapnel_auth_answer, AuthAnswer, response_information);
	AT(grapnel_auth_answer, AuthAnswer, attributes);
	AT(grapnel_auth_answer, AuthAnswer, attribute_count);
	AT(grapnel_auth_answer, AuthAnswer, rules);
	AT(grapnel_auth_answer, AuthAnswer, limits);
	AT(grapnel_auth_answer, AuthAnswer, valid_until);
}

static void
print_host(void)
{
	AT(grapnel_host, Host, size);
	AT(grapnel_host, Host, abi_major);
	AT(grapnel_host, Host, abi_minor);
	AT(grapnel_host, Host, workers);
	AT(grapnel_host, Host, auth_answer);
	AT(grapnel_host, Host, auth_resolve);
	AT(grapnel_host, Host, request_time_left);
	AT(grapnel_host, Host, option_str);
	AT(grapnel_host, Host, option_int);
	AT(grapnel_host, Host, option_bool);
	AT(grapnel_host, Host, option_list);
	AT(grapnel_host, Host, instance_name);
	AT(grapnel_host, Host, log);
	AT(grapnel_host, Host, config_error);
	AT(grapnel_host, Host, metric_new);
	AT(grapnel_host, Host, metric_add);
}

static void
print_plugin(void)
{
	SIZE(grapnel_option, OptionDef);
	AT(grapnel_option, OptionDef, name);
	AT_AS(grapnel_option, OptionDef, type, kind);
	AT(grapnel_option, OptionDef, flags);
	AT(grapnel_option, OptionDef, default_value);
	AT(grapnel_option, OptionDef, min);
	AT(grapnel_option, OptionDef, max);
	AT(grapnel_option, OptionDef, choices);
	AT(grapnel_option, OptionDef, options);
	AT(grapnel_option, OptionDef, help);
	SIZE(grapnel_plugin, Plugin);
	AT(grapnel_plugin, Plugin, magic);
	AT(grapnel_plugin, Plugin, abi_major);
	AT(grapnel_plugin, Plugin, abi_minor);
	AT(grapnel_plugin, Plugin, required_minor);
	AT(grapnel_plugin, Plugin, size);
	AT(grapnel_plugin, Plugin, name);
	AT(grapnel_plugin, Plugin, options);
	AT(grapnel_plugin, Plugin, create);
	AT(grapnel_plugin, Plugin, destroy);
	AT(grapnel_plugin, Plugin, worker_start);
	AT(grapnel_plugin, Plugin, worker_stop);
	AT(grapnel_plugin, Plugin, reload_always);
	AT(grapnel_plugin, Plugin, client_authenticate);
	AT(grapnel_plugin, Plugin, events);
	AT(grapnel_plugin, Plugin, event_mode);
	AT(grapnel_plugin, Plugin, on_events);
	AT(grapnel_plugin, Plugin, listener_close);
}

int
main(int argc, char **argv)
{
	printf(
	    "#[path = \"%s\"]\nmod grapnel;\nuse grapnel::*;\n", argc > 1 ? argv[1] : "grapnel.rs");
	printf("const fn member_size<T, M>(_: fn(&T) -> &M) -> usize {\n    "
	       "core::mem::size_of::<M>()\n}\n");
	print_numbers();
	print_questions();
	print_host();
	print_plugin();
	return 0;
}
