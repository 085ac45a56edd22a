/* SPDX-License-Identifier: MIT-0 */
/*
 * client-id-guard - a client identifier has to belong to the user who brings it
 *
 * Who knows a password could else take over the session of any other client by its identifier. It is accepted when it is the user
 * name, or begins with it and a dash; whether the password is right is left to the plugins behind this one.
 *
 * Threads:   a guard does not change after create(), so the hooks on all workers share it by &Guard.
 * Ownership: create() gives a Box to the host, destroy() takes it back.
 * Bounded:   nothing grows.
 *
 * No panic leaves this file: everything that the host calls goes through guarded(). (-C panic=abort would end the broker.)
 */
mod grapnel;

use core::ffi::c_void;
use grapnel::*;
use std::os::raw::c_int;
use std::panic::{catch_unwind, AssertUnwindSafe};

const CLIENT_IDENTIFIER_NOT_VALID: u8 = 0x85;

struct Guard {
    host: &'static Host,
    instance: *mut Instance,
    metric_refused: c_int,
    max_length: usize,
    printable: bool,
    exempt: Vec<Vec<u8>>, /* listeners */
}

/* The host's functions may be called on any thread, and the rest is constant. */
unsafe impl Sync for Guard {}

fn guarded<T>(otherwise: T, function: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(function)).unwrap_or(otherwise)
}

/* C strings of the descriptor. */
macro_rules! c {
    ($text:literal) => {
        concat!($text, "\0").as_ptr() as *const std::os::raw::c_char
    };
}

fn belongs_to(client_id: &[u8], username: &[u8]) -> bool {
    match client_id.strip_prefix(username) {
        Some(rest) => rest.is_empty() || rest[0] == b'-',
        None => false,
    }
}

impl Guard {
    /* Why not; None: it is fine. */
    fn fault(&self, client_id: &[u8], username: &[u8]) -> Option<&'static str> {
        if client_id.len() > self.max_length {
            Some("the client identifier is too long")
        } else if self.printable && !client_id.iter().all(|b| b.is_ascii_graphic()) {
            Some("the client identifier has characters that are not printable ASCII")
        } else if !belongs_to(client_id, username) {
            Some("the client identifier has to begin with the user name")
        } else {
            None
        }
    }

    fn authenticate(&self, req: *mut Request, q: &Authenticate) -> c_int {
        let client = unsafe { &*q.client };
        let (id, user, listener) = unsafe { (client.client_id.bytes(), client.username.bytes(), client.listener.bytes()) };
        let (id, user) = match (id, user) {
            (Some(id), Some(user)) => (id, user),
            _ => return NEXT, /* no user: others decide what that is worth */
        };
        if self.exempt.iter().any(|name| Some(name.as_slice()) == listener) {
            return NEXT;
        }
        let fault = match self.fault(id, user) {
            Some(fault) => fault,
            None => return NEXT,
        };
        unsafe { (self.host.metric_add)(self.instance, self.metric_refused, 1) };
        self.deny(req, fault)
    }

    fn deny(&self, req: *mut Request, fault: &str) -> c_int {
        let answer = AuthAnswer {
            size: core::mem::size_of::<AuthAnswer>(),
            reason_code: CLIENT_IDENTIFIER_NOT_VALID,
            more: false,
            superuser: false,
            no_store: false,
            cache_ttl_ms: 0,
            reason_string: Str::of(fault),
            username: Str::NONE,
            mountpoint: Str::NONE,
            data: Str::NONE,
            server_reference: Str::NONE,
            response_information: Str::NONE,
            attributes: core::ptr::null(),
            attribute_count: 0,
            rules: core::ptr::null_mut(),
            limits: core::ptr::null(),
            valid_until: 0,
        };
        match unsafe { (self.host.auth_answer)(req, &answer) } {
            OK => DENY,
            _ => UNAVAILABLE,
        }
    }
}

/* ---------------------------------------------------------------------- what the host calls */

unsafe extern "C" fn create(host: *const Host, instance: *mut Instance, out: *mut *mut c_void) -> c_int {
    guarded(ENOMEM, || {
        let host: &'static Host = &*host; /* lives longer than any instance */
        let none: *const Block = core::ptr::null();
        let mut exempt = Vec::new();
        while let Some(name) = (host.option_list)(instance, none, c!("exempt_listeners"), exempt.len()).bytes() {
            exempt.push(name.to_vec());
        }
        let metric_refused = (host.metric_new)(
            instance,
            COUNTER,
            c!("refused_total"),
            c!("Clients whose identifier was not theirs."),
        );
        if metric_refused < 0 {
            return metric_refused;
        }
        let guard = Box::new(Guard {
            host,
            instance,
            metric_refused,
            max_length: (host.option_int)(instance, none, c!("max_length")) as usize,
            printable: (host.option_bool)(instance, none, c!("printable")),
            exempt,
        });
        *out = Box::into_raw(guard).cast();
        OK
    })
}

unsafe extern "C" fn destroy(instance: *mut c_void) {
    guarded((), || drop(Box::from_raw(instance as *mut Guard)))
}

unsafe extern "C" fn client_authenticate(instance: *mut c_void, req: *mut Request, q: *const Authenticate) -> c_int {
    guarded(UNAVAILABLE, || (*(instance as *const Guard)).authenticate(req, &*q))
}

const fn option(name: *const std::os::raw::c_char, kind: c_int, default_value: *const std::os::raw::c_char, min: i64, max: i64,
    help: *const std::os::raw::c_char) -> OptionDef {
    OptionDef {
        name,
        kind,
        flags: 0,
        default_value,
        min,
        max,
        choices: core::ptr::null(),
        options: core::ptr::null(),
        help,
        reserved: [core::ptr::null(); 2],
    }
}

static OPTIONS: [OptionDef; 4] = [
    option(c!("exempt_listeners"), OPTION_LIST, core::ptr::null(), 0, 0, c!("Listeners whose clients are not looked at.")),
    option(c!("max_length"), OPTION_INT, c!("64"), 1, 65535, c!("Longest client identifier, in bytes.")),
    option(c!("printable"), OPTION_BOOL, c!("yes"), 0, 0, c!("Whether it has to be printable ASCII without blanks.")),
    option(core::ptr::null(), 0, core::ptr::null(), 0, 0, core::ptr::null()),
];

#[no_mangle]
#[allow(non_upper_case_globals)]
pub static grapnel_plugin: Plugin = Plugin {
    magic: PLUGIN_MAGIC,
    abi_major: ABI_MAJOR,
    abi_minor: ABI_MINOR,
    required_minor: 0,
    reserved: 0,
    size: core::mem::size_of::<Plugin>(),
    name: c!("client_id_guard"),
    version: c!("1.0"),
    license: c!("MIT-0"),
    description: c!("Refuses client identifiers that belong to somebody else"),
    options: &OPTIONS[0],
    create: Some(create),
    destroy: Some(destroy),
    worker_start: None,
    worker_stop: None,
    reload_always: false,
    request_cancelled: None,
    client_slot_free: None,
    client_authenticate: Some(client_authenticate),
    client_auth_exchange: None,
    client_revalidate: None,
    acl_check: None,
    message_publish: None,
    client_subscribe: None,
    client_unsubscribe: None,
    message_deliver: None,
    message_acknowledge: None,
    events: 0,
    event_mode: 0,
    on_events: None,
    tls_psk_key: None,
    listener_open: None,
    listener_close: None,
};
