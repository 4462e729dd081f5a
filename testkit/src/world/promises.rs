//! What each driver has said, and the promises that every completion is held to. Runs nothing.

use std::collections::VecDeque;

use transport_core::{
    Completion, Delivery, DownReason, Endpoint, Flow, Grant, LinkId, Loss, OpenError, OpenId, Part, PeerInfo,
    Progress, Recovery, Role,
};

use super::{Host, World};

/// What became of an `open`.
#[derive(Debug)]
pub struct OpenLog {
    /// Which side.
    pub role: Role,
    pub(super) flow: Flow,
    /// The real address, once bound.
    pub bound: Option<Endpoint>,
    /// Why it came to nothing.
    pub failed: Option<OpenError>,
    /// Whether the test closed it.
    pub closed: bool,
    /// Its links so far.
    pub links: Vec<LinkId>,
    /// What a monitor would have seen.
    pub progress: Vec<Progress>,
}

/// What happened on a link.
#[derive(Debug)]
pub struct LinkLog {
    /// The open it came from.
    pub open: OpenId,
    /// Who is there.
    pub peer: PeerInfo,
    /// Parts and gaps that arrived and were not taken yet.
    pub inbox: VecDeque<Event>,
    /// Parts that ever arrived, commands included.
    pub arrived: u64,
    /// Parts that were taken by `post_send`, commands included.
    pub posted: u64,
    /// The last `Sent`.
    pub sent: u64,
    /// What came back.
    pub returned: Vec<Part>,
    /// How many `Writable` came.
    pub writables: u64,
    /// How it ended.
    pub down: Option<DownReason>,
    pub(super) granted: Grant,
    /// Set when `post_send` refused or `room` was seen to be 0; a `Writable` or the end is owed.
    pub(super) starved: bool,
    pub(super) closing: bool,
    // Of what was posted and is not covered by Sent; the bodies themselves would pin slots.
    pub(super) unsent: VecDeque<Print>,
    sent_more: bool,
    recovery: Recovery,
}

/// Something that came in on a link, in order.
#[derive(Debug)]
pub enum Event {
    /// A part.
    Part(Part),
    /// Something is missing here.
    Gap(Loss),
}

/// Enough of a part to know it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Print {
    len: usize,
    more: bool,
    pub(super) command: bool,
    head: u64,
}

impl Print {
    pub(super) fn of(part: &Part) -> Self {
        let head = &part.body[..part.body.len().min(32)];
        let head = head
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, b| (hash ^ *b as u64).wrapping_mul(0x100_0000_01b3));
        Self { len: part.body.len(), more: part.flags.more(), command: part.flags.command(), head }
    }
}

impl World {
    pub(super) fn absorb(&mut self, at: usize, completion: Completion) {
        let host = &mut self.hosts[at];
        match completion {
            Completion::Bound { open, endpoint } => {
                let log = host.opens.get_mut(&open).expect("Bound of an open that nobody asked for");
                assert_eq!(log.role, Role::Bind, "Bound of a connect");
                assert!(!log.closed, "Bound after close_open");
                assert!(log.bound.is_none() && log.failed.is_none(), "Bound is not the first word: {log:?}");
                assert!(log.links.is_empty(), "an Up came before Bound");
                log.bound = Some(endpoint);
            }
            Completion::Failed { open, error } => {
                let log = host.opens.get_mut(&open).expect("Failed of an open that nobody asked for");
                assert!(!log.closed, "Failed after close_open");
                assert!(log.bound.is_none() && log.failed.is_none(), "two outcomes of one open: {log:?}");
                assert!(log.links.is_empty(), "Failed after Up: {log:?}");
                log.failed = Some(error);
            }
            Completion::Progress { open, progress } => {
                let log = host.opens.get_mut(&open).expect("Progress of an open that nobody asked for");
                assert!(!log.closed, "Progress after close_open");
                log.progress.push(progress);
            }
            Completion::Up { link, open, peer } => {
                let log = host.opens.get_mut(&open).expect("Up of an open that nobody asked for");
                assert!(!log.closed, "Up after close_open");
                assert!(log.failed.is_none(), "Up after Failed");
                match log.role {
                    Role::Bind => assert!(log.bound.is_some(), "Up before Bound"),
                    // One per source where many may send.
                    Role::Connect => assert!(log.links.is_empty() || log.flow == Flow::Recv, "a second Up"),
                }
                log.links.push(link);
                let fresh = LinkLog {
                    open,
                    peer: *peer,
                    inbox: VecDeque::new(),
                    arrived: 0,
                    posted: 0,
                    sent: 0,
                    returned: Vec::new(),
                    writables: 0,
                    down: None,
                    granted: Grant::Limited(0),
                    starved: false,
                    closing: false,
                    unsent: VecDeque::new(),
                    sent_more: false,
                    recovery: Recovery::default(),
                };
                assert!(host.links.insert(link, fresh).is_none(), "{link:?} came up twice");
            }
            Completion::Received { link, part } => {
                let log = host.live(link, "Received");
                assert!(log.returned.is_empty(), "{link:?}: Received after Returned");
                assert!(!log.closing, "{link:?}: Received after close_link");
                assert!(!(part.flags.command() && part.flags.more()), "{link:?}: a command with MORE");
                if !part.flags.command()
                    && let Grant::Limited(left) = &mut log.granted
                {
                    assert!(*left > 0, "{link:?}: more parts than were granted");
                    *left -= 1;
                }
                log.arrived += 1;
                log.inbox.push_back(Event::Part(part));
            }
            Completion::Sent { link, through } => {
                let log = host.live(link, "Sent");
                assert!(log.returned.is_empty(), "{link:?}: Sent after Returned");
                assert!(through >= log.sent, "{link:?}: Sent goes back from {} to {through}", log.sent);
                assert!(through <= log.posted, "{link:?}: Sent {through}, but {} were posted", log.posted);
                for print in log.unsent.drain(..(through - log.sent) as usize) {
                    if !print.command {
                        log.sent_more = print.more;
                    }
                }
                log.sent = through;
            }
            Completion::Returned { link, part } => {
                let log = host.live(link, "Returned");
                log.returned.push(part);
            }
            Completion::Writable { link } => {
                let log = host.live(link, "Writable");
                assert!(log.returned.is_empty(), "{link:?}: Writable after Returned");
                log.starved = false;
                log.writables += 1;
            }
            Completion::Gap { link, lost } => {
                let log = host.live(link, "Gap");
                assert!(log.returned.is_empty(), "{link:?}: Gap after Returned");
                let (Loss::Packets(count) | Loss::Messages(count)) = lost;
                assert!(count > 0, "{link:?}: a Gap of nothing");
                assert_eq!(
                    self.capabilities.delivery,
                    Delivery::GapReported,
                    "{link:?}: a Gap on a reliable link"
                );
                log.inbox.push_back(Event::Gap(lost));
            }
            Completion::Recovery { link, recovery } => {
                let log = host.live(link, "Recovery");
                assert!(recovery != log.recovery, "{link:?}: a report without news");
                log.recovery = recovery;
            }
            Completion::Down { link, reason } => {
                let log = host.live(link, "Down");
                log.check_returned(link);
                log.down = Some(reason);
            }
            other => panic!("a completion that the suite does not know: {other:?}"),
        }
    }
}

impl Host {
    fn live(&mut self, link: LinkId, what: &str) -> &mut LinkLog {
        let log = self.links.get_mut(&link).unwrap_or_else(|| panic!("{what} of {link:?} before its Up"));
        assert!(log.down.is_none(), "{what} of {link:?} after its Down");
        log
    }
}

impl LinkLog {
    /// `Sent` covers everything.
    pub fn all_sent(&self) -> bool {
        self.sent == self.posted
    }

    /// Whether a `Writable` is owed: there was a refusal or a `room` of 0, and none came since.
    pub fn starved(&self) -> bool {
        self.starved
    }

    /// Returned parts are the whole messages at the end of what Sent does not cover, without holes: what follows a
    /// message that the device never saw was not seen either. Only the beginning of a message that was never
    /// finished may be left out. Commands may come back or not.
    fn check_returned(&self, link: LinkId) {
        if self.returned.is_empty() {
            return;
        }
        let messages = |print: &Print| !print.command;
        let returned: Vec<_> = self.returned.iter().map(Print::of).filter(messages).collect();
        let mut unsent: Vec<_> = self.unsent.iter().copied().filter(messages).collect();
        if returned.last().is_some_and(|last| !last.more) {
            let whole = unsent.iter().rposition(|print| !print.more).map_or(0, |last| last + 1);
            unsent.truncate(whole);
        }
        let (before, rest) = unsent.split_at(unsent.len().saturating_sub(returned.len()));
        assert_eq!(rest, returned, "{link:?}: what came back is not the end of what was posted");
        let inside = before.last().map_or(self.sent_more, |print| print.more);
        assert!(!inside || returned.is_empty(), "{link:?}: what came back begins inside a message");
    }
}
