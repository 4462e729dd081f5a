//! Compares the types of the bindings with the rdma-core headers that are installed, by a C program that prints sizes
//! and offsets. Test only. The bindings assert the same about themselves when they are compiled, for the headers they
//! were made from.

use std::fmt::Write;
use std::mem::offset_of;
use std::process::Command;

use super::*;

/// Makes this absence of headers or of a compiler a failure.
const REQUIRE: &str = "FABRIQ_REQUIRE_RDMA_HEADERS";

/// What both sides compute: a C expression and our value for it.
struct Fact {
    expression: String,
    ours: usize,
}

macro_rules! facts {
    ($($type:ident $([$sized:ident])? { $($($field:ident).+),* $(,)? })*) => {{
        let mut facts = Vec::new();
        $(
            $(
                let _ = stringify!($sized);
                facts.push(Fact {
                    expression: concat!("sizeof(struct ", stringify!($type), ")").to_owned(),
                    ours: size_of::<$type>(),
                });
            )?
            $(
                facts.push(Fact {
                    expression: format!(
                        "offsetof(struct {}, {})",
                        stringify!($type),
                        stringify!($($field).+).replace(' ', ""),
                    ),
                    ours: offset_of!($type, $($field).+),
                });
            )*
        )*
        facts
    }};
}

/// Every struct that crosses the boundary. `[sized]` is for those that one side allocates for the other and that have
/// not grown: `ibv_port_attr` may grow at its end, and its size is passed with it; of `ibv_qp` and its like we only
/// ever have pointers.
fn struct_facts() -> Vec<Fact> {
    facts! {
        ibv_async_event [sized] { element, event_type }
        ibv_comp_channel { context, fd }
        ibv_context { device, ops, ops.poll_cq, ops.req_notify_cq, ops.post_srq_recv, ops.post_send, ops.post_recv,
            cmd_fd, async_fd, num_comp_vectors, abi_compat }
        ibv_cq { context, channel, cq_context, cqe }
        ibv_device { node_type, transport_type, name }
        ibv_device_attr [sized] { fw_ver, max_mr_size, vendor_id, vendor_part_id, max_qp, max_qp_wr, max_sge, max_cq, max_cqe, max_mr,
            max_qp_rd_atom, max_qp_init_rd_atom, max_srq, max_srq_wr, max_srq_sge, phys_port_cnt }
        ibv_mr { context, pd, addr, length, lkey, rkey }
        ibv_pd { context }
        ibv_port_attr { state, max_mtu, active_mtu, gid_tbl_len, max_msg_sz, link_layer, flags }
        ibv_qp { context, qp_context, pd, send_cq, recv_cq, srq, qp_num, state, qp_type }
        ibv_qp_attr [sized] { qp_state, path_mtu, qp_access_flags, cap, ah_attr, max_rd_atomic, max_dest_rd_atomic, min_rnr_timer,
            port_num, timeout, retry_cnt, rnr_retry }
        ibv_qp_cap [sized] { max_send_wr, max_recv_wr, max_send_sge, max_recv_sge, max_inline_data }
        ibv_qp_init_attr [sized] { qp_context, send_cq, recv_cq, srq, cap, qp_type, sq_sig_all }
        ibv_recv_wr [sized] { wr_id, next, sg_list, num_sge }
        ibv_send_wr [sized] { wr_id, next, sg_list, num_sge, opcode, send_flags, wr.rdma.remote_addr, wr.rdma.rkey }
        ibv_sge [sized] { addr, length, lkey }
        ibv_srq { context, srq_context, pd }
        ibv_srq_attr [sized] { max_wr, max_sge, srq_limit }
        ibv_srq_init_attr [sized] { srq_context, attr }
        ibv_wc [sized] { wr_id, status, opcode, vendor_err, byte_len, qp_num, wc_flags }
        rdma_cm_event { id, listen_id, event, status, param, param.conn.private_data, param.conn.private_data_len,
            param.conn.responder_resources, param.conn.initiator_depth }
        rdma_cm_id { verbs, channel, context, qp, route, port_num }
        rdma_conn_param [sized] { private_data, private_data_len, responder_resources, initiator_depth, flow_control,
            retry_count, rnr_retry_count, srq, qp_num }
        rdma_event_channel { fd }
    }
}

/// Values of enumerators, and the places in `verbs_context`, which C alone knows.
fn value_facts() -> Vec<Fact> {
    let mut facts = vec![
        Fact {
            expression: "offsetof(struct verbs_context, context) - offsetof(struct verbs_context, sz)"
                .to_owned(),
            ours: VERBS_CONTEXT_SIZE_BEFORE,
        },
        Fact {
            expression:
                "offsetof(struct verbs_context, context) - offsetof(struct verbs_context, query_port)"
                    .to_owned(),
            ours: VERBS_CONTEXT_QUERY_PORT_BEFORE,
        },
        // The tail that fabriq knows must exist, or providers would write beyond our struct only if it had shrunk.
        Fact {
            expression: format!("sizeof(struct ibv_port_attr) >= {}", size_of::<ibv_port_attr>()),
            ours: 1,
        },
    ];
    macro_rules! values {
        ($($name:ident),* $(,)?) => {
            $(facts.push(Fact { expression: stringify!($name).to_owned(), ours: $name as usize });)*
        };
    }
    values![
        IBV_ACCESS_LOCAL_WRITE,
        IBV_ACCESS_OPTIONAL_RANGE,
        IBV_ACCESS_REMOTE_READ,
        IBV_EVENT_COMM_EST,
        IBV_EVENT_CQ_ERR,
        IBV_EVENT_DEVICE_FATAL,
        IBV_EVENT_QP_FATAL,
        IBV_EVENT_QP_LAST_WQE_REACHED,
        IBV_EVENT_SRQ_LIMIT_REACHED,
        IBV_QPS_ERR,
        IBV_QPT_RC,
        IBV_QP_STATE,
        IBV_SEND_INLINE,
        IBV_SEND_SIGNALED,
        IBV_WC_FATAL_ERR,
        IBV_WC_RECV,
        IBV_WC_REM_ACCESS_ERR,
        IBV_WC_RNR_RETRY_EXC_ERR,
        IBV_WC_WR_FLUSH_ERR,
        IBV_WR_RDMA_READ,
        IBV_WR_SEND,
        RDMA_CM_EVENT_CONNECT_REQUEST,
        RDMA_CM_EVENT_CONNECT_RESPONSE,
        RDMA_CM_EVENT_DEVICE_REMOVAL,
        RDMA_CM_EVENT_TIMEWAIT_EXIT,
        RDMA_OPTION_ID_AFONLY,
        RDMA_PS_TCP,
    ];
    facts
}

fn program(facts: &[Fact]) -> String {
    let mut text =
        String::from("#include \"rdma.h\"\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n");
    for fact in facts {
        let _ = writeln!(text, "    printf(\"%zu\\n\", (size_t)({}));", fact.expression);
    }
    text.push_str("    return 0;\n}\n");
    text
}

#[test]
fn the_types_are_laid_out_as_in_the_installed_headers() {
    let required = std::env::var_os(REQUIRE).is_some_and(|value| value == "1");
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let headers = concat!(env!("CARGO_MANIFEST_DIR"), "/bindings");
    let probe =
        Command::new(&cc).args(["-fsyntax-only", "-x", "c"]).arg(format!("{headers}/rdma.h")).output();
    let absent = match probe {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            Some(String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned())
        }
        Err(error) => Some(format!("{cc}: {error}")),
    };
    let facts: Vec<_> = struct_facts().into_iter().chain(value_facts()).collect();
    if let Some(why) = absent {
        assert!(!required, "{REQUIRE}=1, but rdma-core's headers cannot be compiled: {why}");
        println!(
            "SKIPPED: {} layout comparisons with rdma-core's headers were not made ({why}); install libibverbs-dev, \
             librdmacm-dev and a C compiler",
            facts.len()
        );
        return;
    }

    let directory = tempfile_directory();
    let (source, binary) = (directory.join("layout.c"), directory.join("layout"));
    std::fs::write(&source, program(&facts)).unwrap();
    let built =
        Command::new(&cc).arg("-I").arg(headers).arg("-o").arg(&binary).arg(&source).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let printed = Command::new(&binary).output().unwrap().stdout;
    let theirs: Vec<usize> =
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
    println!("{} sizes, offsets and values compared with rdma-core's headers", facts.len());
}

fn tempfile_directory() -> std::path::PathBuf {
    let directory = std::env::temp_dir().join(format!("fabriq-layout-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    directory
}
