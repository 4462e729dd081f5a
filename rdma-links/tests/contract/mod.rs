//! What every fabric promises at the boundary, as tests that run on any. `contract!(Place)` makes them tests of one
//! place. `contract!(guarded Place)` adds that keys and lengths are checked and that all
//! memory comes back at once, and `contract!(queue_pairs Place)` what queue pairs and
//! their connection manager promise beyond that.
#![allow(dead_code, reason = "each test program runs its own groups")]

pub(crate) mod closing;
pub(crate) mod connections;
pub(crate) mod ends;
pub(crate) mod errors;
pub(crate) mod packets;
pub(crate) mod reads;
pub(crate) mod shared;
pub(crate) mod talk;

macro_rules! contract {
    (guarded $place:ty) => {
        crate::contract::contract!($place);
        mod guarded {
            crate::contract::contract! { $place;
                reads {
                    a_key_dies_with_its_pin,
                }
                errors {
                    a_packet_larger_than_the_receive_is_an_error_on_both_sides,
                    a_wrong_key_is_refused_by_the_peer_and_everything_comes_back,
                }
                closing {
                    reads_under_way_come_back_when_their_connection_ends,
                    what_is_posted_to_a_failed_queue_pair_comes_back_once_it_is_disconnected,
                }
            }
        }
    };
    (queue_pairs $place:ty) => {
        crate::contract::contract!(guarded $place);
        mod queue_pairs {
            crate::contract::contract! { $place;
                connections {
                    both_sides_agree_on_reads,
                }
                errors {
                    a_receiver_that_is_not_ready_fails_the_send_when_no_retries_are_allowed,
                    a_receiver_that_is_not_ready_is_waited_for_when_retries_allow_it,
                }
                shared {
                    connections_that_share_receives_get_their_own_packets_and_nothing_is_lost,
                }
            }
        }
    };
    ($place:ty) => {
        crate::contract::contract! { $place;
            connections {
                a_connection_carries_fifty_six_bytes_each_way,
                a_listener_says_no_with_private_data,
                nobody_there_is_told_from_somebody_who_says_no,
                an_address_can_be_taken_once_and_a_wildcard_has_a_port,
                a_wildcard_listener_hears_of_a_device_by_its_first_request,
                a_dialler_that_leaves_before_the_answer_is_no_connection,
                many_connections_keep_apart,
                stale_ids_are_errors_or_nothing,
                a_closed_device_opens_again_with_the_next_connection,
            }
            packets {
                a_packet_crosses_and_its_buffers_come_back,
                inline_packets_leave_their_bytes_with_the_caller,
                unsignalled_sends_come_back_in_order_and_never_fill_the_queue,
                what_was_not_signalled_comes_back_all_the_same_when_it_is_over,
                a_packet_is_gathered_from_its_buffer_and_shared_frames,
                what_does_not_fit_is_refused_and_stays_with_the_caller,
                a_ring_of_many_packets_arrives_whole,
                packets_go_both_ways_at_once_in_order,
                a_completion_before_the_arming_keeps_the_caller_awake,
            }
            reads {
                a_read_lands_in_the_frame_that_the_application_gets,
                the_listener_reads_as_well_as_the_dialler,
                memory_that_no_pool_has_is_registered_for_the_one_use,
                a_read_without_a_place_to_land_is_refused,
                nothing_is_read_of_a_link_that_has_ended,
            }
            errors {
                disconnecting_flushes_what_is_posted_and_says_when_all_is_back,
                a_send_before_the_connection_stands_comes_back_refused,
                a_fabric_dropped_in_mid_conversation_gives_all_memory_back,
            }
            closing {
                a_connection_can_end_at_every_step_from_either_side,
                what_is_posted_after_the_end_is_refused_or_comes_back,
                the_end_of_one_connection_leaves_the_device_to_the_next,
            }
            talk {
                two_that_do_everything_at_once_get_everything_in_order,
            }
        }
    };
    ($place:ty; $($module:ident { $($name:ident),* $(,)? })*) => {
        $(mod $module {
            $(#[test]
            fn $name() {
                crate::contract::$module::$name::<$place>();
            })*
        })*
    };
}
pub(crate) use contract;
