//! Compares the types, flags and tables of the bindings with the libfabric headers that are installed, by a C program
//! that prints sizes and offsets. Test only. The bindings assert the same about themselves when they are compiled,
//! for the headers they were made from.

use std::fmt::Write;
use std::mem::offset_of;
use std::process::Command;

use super::*;

/// Makes an absence of headers or of a compiler a failure.
const REQUIRE: &str = "FABRIQ_REQUIRE_OFI_HEADERS";

/// What both sides compute: a C expression and our value for it.
struct Fact {
    expression: String,
    ours: u64,
}

macro_rules! facts {
    ($($type:ident $([$sized:ident])? { $($($field:ident).+),* $(,)? })*) => {{
        let mut facts = Vec::new();
        $(
            $(
                let _ = stringify!($sized);
                facts.push(Fact {
                    expression: concat!("sizeof(struct ", stringify!($type), ")").to_owned(),
                    ours: size_of::<$type>() as u64,
                });
            )?
            $(
                facts.push(Fact {
                    expression: format!(
                        "offsetof(struct {}, {})",
                        stringify!($type),
                        stringify!($($field).+).replace(' ', ""),
                    ),
                    ours: offset_of!($type, $($field).+) as u64,
                });
            )*
        )*
        facts
    }};
}

/// Every struct that crosses the boundary. `[sized]` is for those that one side allocates for the other and that have
/// not grown. Those that have (attributes, error entries) are handed over with zeros behind them, or allocated by the
/// library.
fn struct_facts() -> Vec<Fact> {
    facts! {
        fi_info [sized] { next, caps, mode, addr_format, src_addrlen, dest_addrlen, src_addr, dest_addr, handle, tx_attr,
            rx_attr, ep_attr, domain_attr, fabric_attr, nic }
        fi_tx_attr [sized] { caps, mode, op_flags, msg_order, comp_order, inject_size, size, iov_limit, rma_iov_limit }
        fi_rx_attr [sized] { caps, mode, op_flags, msg_order, comp_order, size, iov_limit }
        fi_ep_attr [sized] { type_, protocol, max_msg_size, msg_prefix_size, tx_ctx_cnt, rx_ctx_cnt }
        fi_domain_attr { domain, name, threading, control_progress, data_progress, resource_mgmt, av_type, mr_mode,
            mr_key_size, cq_cnt, ep_cnt }
        fi_fabric_attr [sized] { fabric, name, prov_name, prov_version, api_version }
        fid [sized] { fclass, context, ops }
        fid_fabric { fid, ops, api_version }
        fid_domain { fid, ops, mr }
        fid_ep { fid, ops, cm, msg, rma }
        fid_pep { fid, ops, cm }
        fid_eq { fid, ops }
        fid_cq { fid, ops }
        fid_av { fid, ops }
        fid_mr { fid, mem_desc, key }
        fi_ops { size, close, bind, control }
        fi_ops_fabric { size, domain, passive_ep, eq_open, trywait }
        fi_ops_domain { size, av_open, cq_open, endpoint }
        fi_ops_mr { size, reg }
        fi_ops_ep { size, cancel, getopt }
        fi_ops_cm { size, getname, getpeer, connect, listen, accept, reject, shutdown }
        fi_ops_msg { size, recv, send, sendmsg, inject }
        fi_ops_rma { size, read }
        fi_ops_av { size, insert }
        fi_ops_eq { size, read, readerr, strerror }
        fi_ops_cq { size, read, readerr, strerror }
        fi_eq_attr { size, flags, wait_obj }
        fi_cq_attr { size, flags, format, wait_obj, wait_cond }
        fi_av_attr { type_, rx_ctx_bits, count, ep_per_node, name, map_addr, flags }
        fi_eq_err_entry [sized] { fid, context, data, err, prov_errno, err_data, err_data_size }
        fi_eq_cm_entry { fid, info, data }
        fi_cq_msg_entry [sized] { op_context, flags, len }
        fi_cq_err_entry { op_context, flags, len, buf, data, tag, olen, err, prov_errno, err_data, err_data_size }
        fi_msg [sized] { msg_iov, desc, iov_count, addr, context, data }
        fi_context2 [sized] { }
    }
}

/// Values of enumerators and macros, which C alone knows.
fn value_facts() -> Vec<Fact> {
    let mut facts = Vec::new();
    macro_rules! values {
        ($($name:ident),* $(,)?) => {
            $(facts.push(Fact { expression: stringify!($name).to_owned(), ours: $name as i64 as u64 });)*
        };
    }
    values![
        FI_ADDR_STR,
        FI_ADDR_UNSPEC,
        FI_BACKLOG,
        FI_COMPLETION,
        FI_CONNECTED,
        FI_CONNREQ,
        FI_CONTEXT,
        FI_CONTEXT2,
        FI_CQ_FORMAT_MSG,
        FI_EADDRINUSE,
        FI_EAGAIN,
        FI_EAVAIL,
        FI_ECANCELED,
        FI_ECONNREFUSED,
        FI_ENABLE,
        FI_ENOKEY,
        FI_ENORX,
        FI_ENOSYS,
        FI_EP_MSG,
        FI_EP_RDM,
        FI_ETRUNC,
        FI_GETWAIT,
        FI_INJECT,
        FI_MR_ALLOCATED,
        FI_MR_LOCAL,
        FI_MR_PROV_KEY,
        FI_MR_VIRT_ADDR,
        FI_MSG,
        FI_PROV_ATTR_ONLY,
        FI_NUMERICHOST,
        FI_OPT_CM_DATA_SIZE,
        FI_OPT_ENDPOINT,
        FI_ORDER_SAS,
        FI_PROGRESS_MANUAL,
        FI_READ,
        FI_RECV,
        FI_REMOTE_READ,
        FI_RM_ENABLED,
        FI_RMA,
        FI_SEND,
        FI_SHUTDOWN,
        FI_SOCKADDR,
        FI_SOCKADDR_IN,
        FI_SOCKADDR_IN6,
        FI_SOURCE,
        FI_THREAD_SAFE,
        FI_TRANSMIT,
        FI_WAIT_FD,
        FI_WAIT_NONE,
    ];
    facts
}

fn program(facts: &[Fact]) -> String {
    let mut text =
        String::from("#include \"ofi.h\"\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n");
    for fact in facts {
        // bindgen's name for a field that Rust has a word for.
        let expression = fact.expression.replace("type_", "type");
        let _ = writeln!(text, "    printf(\"%llu\\n\", (unsigned long long)(long long)({expression}));");
    }
    text.push_str("    return 0;\n}\n");
    text
}

#[test]
fn the_types_are_laid_out_as_in_the_installed_headers() {
    let required = std::env::var_os(REQUIRE).is_some_and(|value| value == "1");
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let headers = concat!(env!("CARGO_MANIFEST_DIR"), "/bindings");
    let probe = Command::new(&cc).args(["-fsyntax-only", "-x", "c"]).arg(format!("{headers}/ofi.h")).output();
    let absent = match probe {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            Some(String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned())
        }
        Err(error) => Some(format!("{cc}: {error}")),
    };
    let facts: Vec<_> = struct_facts().into_iter().chain(value_facts()).collect();
    if let Some(why) = absent {
        assert!(!required, "{REQUIRE}=1, but libfabric's headers cannot be compiled: {why}");
        println!(
            "SKIPPED: {} layout comparisons with libfabric's headers were not made ({why}); install libfabric-dev and a C \
             compiler",
            facts.len()
        );
        return;
    }

    let directory = std::env::temp_dir().join(format!("fabriq-ofi-layout-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (source, binary) = (directory.join("layout.c"), directory.join("layout"));
    std::fs::write(&source, program(&facts)).unwrap();
    let built =
        Command::new(&cc).arg("-I").arg(headers).arg("-o").arg(&binary).arg(&source).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let printed = Command::new(&binary).output().unwrap().stdout;
    let theirs: Vec<u64> =
        String::from_utf8(printed).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    std::fs::remove_dir_all(&directory).unwrap();

    assert_eq!(theirs.len(), facts.len());
    let wrong: Vec<_> = facts
        .iter()
        .zip(&theirs)
        .filter(|(fact, theirs)| fact.ours != **theirs)
        .map(|(fact, theirs)| format!("{}: ours {}, the headers' {theirs}", fact.expression, fact.ours))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} sizes, offsets and values compared with libfabric's headers", facts.len());
}
