//! The safe layer on providers that every host has: two endpoints in one process. Needs libfabric (`ci/install`), and
//! fails without.

mod allocations;
mod connections;
mod ends;
mod reads;
mod sleep;
mod talk;
mod world;

/// Runs a test on each provider.
macro_rules! on_each_provider {
    ($($(#[$doc:meta])* fn $name:ident($pair:ident: Pair) $body:block)*) => {
        on_each_provider!(@module tcp "tcp" $(fn $name($pair) $body)*);
        on_each_provider!(@module tcp_rxm "tcp;ofi_rxm" $(fn $name($pair) $body)*);
        on_each_provider!(@module net "net" $(fn $name($pair) $body)*);
        on_each_provider!(@module shm "shm" $(fn $name($pair) $body)*);
    };
    (@module $module:ident $provider:literal $(fn $name:ident($pair:ident) $body:block)*) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[test]
                fn $name() {
                    #[allow(unused_mut)]
                    let mut $pair = crate::world::Pair::new($provider);
                    $body
                }
            )*
        }
    };
}
use on_each_provider;
