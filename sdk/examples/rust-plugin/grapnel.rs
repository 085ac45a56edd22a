/* SPDX-License-Identifier: MIT-0 */
/*
 * grapnel.rs - the part of the headers that this plugin needs, by hand
 *
 * A struct that crosses the border is #[repr(C)] and has the members of the header in the header's order: of those that the host
 * fills (Host, ClientInfo, Authenticate) only up to the last one used, which is fine since they begin with their size; of those that
 * we fill (Plugin, OptionDef, AuthAnswer) all. layout.c checks every size and offset against the headers; run it when they change.
 */
#![allow(dead_code)]

use core::ffi::c_void;
use std::os::raw::{c_char, c_int, c_uint};

pub const ABI_MAJOR: u16 = 1;
pub const ABI_MINOR: u16 = 0;
pub const PLUGIN_MAGIC: u64 = 0x6c65_6e70_6172_4721;

pub const OK: c_int = 0;
pub const ENOMEM: c_int = -1;
pub const EINVAL: c_int = -2;

pub const ALLOW: c_int = 1;
pub const DENY: c_int = 2;
pub const NEXT: c_int = 3;
pub const UNAVAILABLE: c_int = 5;

pub const OPTION_INT: c_int = 2;
pub const OPTION_BOOL: c_int = 3;
pub const OPTION_LIST: c_int = 6;

pub const COUNTER: c_int = 1;
pub const LOG_NOTICE: c_int = 3;

/* Opaque: only ever behind a pointer. */
#[repr(C)]
pub struct Instance {
    _private: [u8; 0],
}
#[repr(C)]
pub struct Request {
    _private: [u8; 0],
}
#[repr(C)]
pub struct Block {
    _private: [u8; 0],
}

/* A function of the table that is not used here: it only takes its place. */
pub type Unused = Option<unsafe extern "C" fn()>;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Str {
    pub data: *const c_char,
    pub len: usize,
}

impl Str {
    pub const NONE: Str = Str { data: core::ptr::null(), len: 0 };

    pub fn of(text: &str) -> Str {
        Str { data: text.as_ptr().cast(), len: text.len() }
    }

    /// # Safety
    /// What it points to must live as long as 'a: for a question until the request is resolved.
    pub unsafe fn bytes<'a>(&self) -> Option<&'a [u8]> {
        if self.data.is_null() {
            None
        } else {
            Some(core::slice::from_raw_parts(self.data.cast(), self.len))
        }
    }
}

#[repr(C)]
pub struct OptionDef {
    pub name: *const c_char,
    pub kind: c_int,
    pub flags: u32,
    pub default_value: *const c_char,
    pub min: i64,
    pub max: i64,
    pub choices: *const c_char,
    pub options: *const OptionDef,
    pub help: *const c_char,
    pub reserved: [*const c_void; 2],
}

#[repr(C)]
pub struct ClientInfo {
    pub size: usize,
    pub client: *mut c_void,
    pub client_id: Str,
    pub username: Str,
    pub mountpoint: Str,
    pub peer: Str,
    pub listener: Str,
}

#[repr(C)]
pub struct Authenticate {
    pub size: usize,
    pub client: *const ClientInfo,
}

#[repr(C)]
pub struct AuthAnswer {
    pub size: usize,
    pub reason_code: u8,
    pub more: bool,
    pub superuser: bool,
    pub no_store: bool,
    pub cache_ttl_ms: u32,
    pub reason_string: Str,
    pub username: Str,
    pub mountpoint: Str,
    pub data: Str,
    pub server_reference: Str,
    pub response_information: Str,
    pub attributes: *const c_void,
    pub attribute_count: usize,
    pub rules: *mut c_void,
    pub limits: *const c_void,
    pub valid_until: i64,
}

#[repr(C)]
pub struct Host {
    pub size: usize,
    pub abi_major: u16,
    pub abi_minor: u16,
    pub workers: u32,
    pub auth_answer: unsafe extern "C" fn(*mut Request, *const AuthAnswer) -> c_int,
    pub acl_answer: Unused,
    pub publish_answer: Unused,
    pub subscribe_answer: Unused,
    pub ack_answer: Unused,
    pub auth_resolve: Unused,
    pub acl_resolve: Unused,
    pub publish_resolve: Unused,
    pub subscribe_resolve: Unused,
    pub ack_resolve: Unused,
    pub request_time_left: Unused,
    pub request_worker: Unused,
    pub request_set_data: Unused,
    pub request_data: Unused,
    pub option_str: Unused,
    pub option_int: unsafe extern "C" fn(*const Instance, *const Block, *const c_char) -> i64,
    pub option_bool: unsafe extern "C" fn(*const Instance, *const Block, *const c_char) -> bool,
    pub option_list: unsafe extern "C" fn(*const Instance, *const Block, *const c_char, usize) -> Str,
    pub option_given: Unused,
    pub option_block: Unused,
    pub option_where: Unused,
    pub instance_name: Unused,
    pub log: unsafe extern "C" fn(*const Instance, c_int, *const c_char, ...),
    pub config_error: unsafe extern "C" fn(*const Instance, *const Block, *const c_char, *const c_char, ...),
    pub metric_new: unsafe extern "C" fn(*mut Instance, c_int, *const c_char, *const c_char) -> c_int,
    pub metric_add: unsafe extern "C" fn(*mut Instance, c_int, i64),
}

#[repr(C)]
pub struct Plugin {
    pub magic: u64,
    pub abi_major: u16,
    pub abi_minor: u16,
    pub required_minor: u16,
    pub reserved: u16,
    pub size: usize,
    pub name: *const c_char,
    pub version: *const c_char,
    pub license: *const c_char,
    pub description: *const c_char,
    pub options: *const OptionDef,
    pub create: Option<unsafe extern "C" fn(*const Host, *mut Instance, *mut *mut c_void) -> c_int>,
    pub destroy: Option<unsafe extern "C" fn(*mut c_void)>,
    pub worker_start: Option<unsafe extern "C" fn(*mut c_void, c_uint) -> c_int>,
    pub worker_stop: Option<unsafe extern "C" fn(*mut c_void, c_uint)>,
    pub reload_always: bool,
    pub request_cancelled: Unused,
    pub client_slot_free: Unused,
    pub client_authenticate: Option<unsafe extern "C" fn(*mut c_void, *mut Request, *const Authenticate) -> c_int>,
    pub client_auth_exchange: Unused,
    pub client_revalidate: Unused,
    pub acl_check: Unused,
    pub message_publish: Unused,
    pub client_subscribe: Unused,
    pub client_unsubscribe: Unused,
    pub message_deliver: Unused,
    pub message_acknowledge: Unused,
    pub events: u64,
    pub event_mode: c_int,
    pub on_events: Unused,
    pub tls_psk_key: Unused,
    pub listener_open: Unused,
    pub listener_close: Unused,
}

/* Tables of pointers to constants: nobody writes to them. */
unsafe impl Sync for Plugin {}
unsafe impl Sync for OptionDef {}

/* Of ABI 1.0 on 64 bits; a wrong member would be seen here before it does harm. layout.c looks at all of them. */
#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(core::mem::size_of::<Str>() == 16);
    assert!(core::mem::size_of::<OptionDef>() == 80);
    assert!(core::mem::size_of::<AuthAnswer>() == 152);
};
