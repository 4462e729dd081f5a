//! The rendezvous table of one context: who listens under a name, who waits for it. Makes no pipes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use transport_core::{Hello, Identity, OpenId};

use crate::mailbox::Mailbox;

/// One side of a link-to-be.
#[derive(Clone)]
pub(crate) struct Party {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) open: OpenId,
    pub(crate) hello: Hello,
    pub(crate) identity: Identity,
}

impl Party {
    fn is(&self, mailbox: &Arc<Mailbox>, open: OpenId) -> bool {
        self.open == open && Arc::ptr_eq(&self.mailbox, mailbox)
    }
}

#[derive(Default)]
struct Place {
    listener: Option<Party>,
    waiting: Vec<Party>,
}

/// The names of one context.
#[derive(Default)]
pub(crate) struct Table(Mutex<HashMap<Box<str>, Place>>);

static TABLES: Mutex<Vec<(u64, Weak<Table>)>> = Mutex::new(Vec::new());

impl Table {
    /// The table of a context. It goes with the last driver that holds it.
    pub(crate) fn of(context: u64) -> Arc<Self> {
        let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
        tables.retain(|(_, table)| table.strong_count() > 0);
        if let Some(table) =
            tables.iter().find(|(of, _)| *of == context).and_then(|(_, table)| table.upgrade())
        {
            return table;
        }
        let table = Arc::new(Self::default());
        tables.push((context, Arc::downgrade(&table)));
        table
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens under `name`. Returns those who were waiting, who are so no more; `None` if the name is taken.
    pub(crate) fn listen(&self, name: &str, party: Party) -> Option<Vec<Party>> {
        let mut names = self.lock();
        let place = names.entry(name.into()).or_default();
        if place.listener.is_some() {
            return None;
        }
        place.listener = Some(party);
        Some(std::mem::take(&mut place.waiting))
    }

    /// Who listens under `name`; if nobody does, `party` waits.
    pub(crate) fn find_or_wait(&self, name: &str, party: Party) -> Option<Party> {
        let mut names = self.lock();
        let place = names.entry(name.into()).or_default();
        if place.listener.is_none() {
            place.waiting.push(party);
        }
        place.listener.clone()
    }

    /// Neither listens nor waits any more.
    pub(crate) fn leave(&self, name: &str, mailbox: &Arc<Mailbox>, open: OpenId) {
        let mut names = self.lock();
        let Entry::Occupied(mut entry) = names.entry(name.into()) else { return };
        let place = entry.get_mut();
        if place.listener.as_ref().is_some_and(|party| party.is(mailbox, open)) {
            place.listener = None;
        }
        place.waiting.retain(|party| !party.is(mailbox, open));
        if place.listener.is_none() && place.waiting.is_empty() {
            entry.remove();
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} names)", self.lock().len())
    }
}
