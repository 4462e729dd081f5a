//! Capabilities, modes, orders and flags (fabric.h, fi_domain.h). Macros in C, with a width that depends on their
//! value; here all have the width of the fields they go into. The layout test holds them to the headers.

/// Capabilities (fi_getinfo(3)): messages, remote memory, and who does what with either.
pub const FI_MSG: u64 = 1 << 1;
pub const FI_RMA: u64 = 1 << 2;
pub const FI_READ: u64 = 1 << 8;
pub const FI_RECV: u64 = 1 << 10;
pub const FI_SEND: u64 = 1 << 11;
pub const FI_TRANSMIT: u64 = FI_SEND;
pub const FI_REMOTE_READ: u64 = 1 << 12;

/// Flags of fi_sendmsg(3).
pub const FI_COMPLETION: u64 = 1 << 24;
pub const FI_INJECT: u64 = 1 << 25;

/// Flags of fi_getinfo(3).
pub const FI_PROV_ATTR_ONLY: u64 = 1 << 54;
pub const FI_NUMERICHOST: u64 = 1 << 55;
pub const FI_SOURCE: u64 = 1 << 57;

/// Modes: what a provider wants of the program.
pub const FI_CONTEXT: u64 = 1 << 59;
pub const FI_CONTEXT2: u64 = 1 << 52;

/// Orders: sends arrive as they were sent.
pub const FI_ORDER_SAS: u64 = 1 << 8;

/// Modes of memory registration (fi_mr(3)).
pub const FI_MR_LOCAL: i32 = 1 << 2;
pub const FI_MR_VIRT_ADDR: i32 = 1 << 4;
pub const FI_MR_ALLOCATED: i32 = 1 << 5;
pub const FI_MR_PROV_KEY: i32 = 1 << 6;

/// An address that names nobody: a connected endpoint's peer, any sender.
pub const FI_ADDR_UNSPEC: u64 = u64::MAX;
