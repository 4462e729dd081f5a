//! Generational ids and the table behind them: a stale id finds nothing, whoever has the place now.

use std::fmt;
use std::marker::PhantomData;

/// Names one link of one driver. Stays invalid for ever once its link is down.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(SlabKey);

/// Names one `open` of one driver.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpenId(SlabKey);

impl LinkId {
    /// Names no link: no table has that many places.
    pub(crate) const NOBODY: Self = Self(SlabKey { index: u32::MAX, generation: u32::MAX });
}

/// A place in a [`Slab`] and the generation that it was filled in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlabKey {
    index: u32,
    generation: u32,
}

impl SlabKey {
    /// The place in the table; reused by later keys.
    pub const fn index(self) -> usize {
        self.index as usize
    }
    /// Packed into one word, for event user data.
    pub const fn to_u64(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }
    /// The opposite of [`SlabKey::to_u64`].
    pub const fn from_u64(word: u64) -> Self {
        Self { index: word as u32, generation: (word >> 32) as u32 }
    }
}

impl fmt::Debug for SlabKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

macro_rules! id {
    ($id:ident) => {
        impl From<SlabKey> for $id {
            fn from(key: SlabKey) -> Self {
                Self(key)
            }
        }
        impl From<$id> for SlabKey {
            fn from(id: $id) -> Self {
                id.0
            }
        }
        impl $id {
            /// The place in its driver's table; reused by later ids.
            pub const fn index(self) -> usize {
                self.0.index()
            }
        }
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($id), "({:?})"), self.0)
            }
        }
    };
}
id!(LinkId);
id!(OpenId);

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    value: Option<T>,
}

/// A table of `T` that hands out keys of kind `K`. Insert, look-up and removal are O(1).
pub struct Slab<K, T> {
    places: Vec<Place<T>>,
    vacant: Vec<u32>,
    len: usize,
    kind: PhantomData<fn() -> K>,
}

impl<K, T> Default for Slab<K, T> {
    fn default() -> Self {
        Self { places: Vec::new(), vacant: Vec::new(), len: 0, kind: PhantomData }
    }
}

impl<K: From<SlabKey> + Into<SlabKey> + Copy, T> Slab<K, T> {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }
    /// Puts a value in and names it.
    pub fn insert(&mut self, value: T) -> K {
        self.insert_with(|_| value)
    }
    /// Like `insert`, for a value that wants to know its own key.
    pub fn insert_with(&mut self, make: impl FnOnce(K) -> T) -> K {
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 1, value: None });
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[index as usize];
        let key = K::from(SlabKey { index, generation: place.generation });
        place.value = Some(make(key));
        self.len += 1;
        key
    }
    /// The value of `key`, unless it has been removed.
    pub fn find(&self, key: K) -> Option<&T> {
        let key = key.into();
        let place = self.places.get(key.index())?;
        if place.generation == key.generation { place.value.as_ref() } else { None }
    }
    /// The value of `key`, unless it has been removed.
    pub fn find_mut(&mut self, key: K) -> Option<&mut T> {
        let key = key.into();
        let place = self.places.get_mut(key.index())?;
        if place.generation == key.generation { place.value.as_mut() } else { None }
    }
    /// Takes the value of `key` out; the key is stale from now on.
    pub fn remove(&mut self, key: K) -> Option<T> {
        let key = key.into();
        let place = self.places.get_mut(key.index())?;
        if place.generation != key.generation {
            return None;
        }
        let value = place.value.take()?;
        // Generation 0 is never given, so that a zeroed key is always stale.
        place.generation = place.generation.wrapping_add(1).max(1);
        self.vacant.push(key.index);
        self.len -= 1;
        Some(value)
    }
    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// All keys and values, in the order of places.
    pub fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            let key = SlabKey { index: index as u32, generation: place.generation };
            place.value.as_ref().map(|value| (K::from(key), value))
        })
    }
    /// All keys and values, in the order of places.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut T)> {
        self.places.iter_mut().enumerate().filter_map(|(index, place)| {
            let key = SlabKey { index: index as u32, generation: place.generation };
            place.value.as_mut().map(|value| (K::from(key), value))
        })
    }
    /// All keys, as a list of their own, for loops that remove.
    pub fn keys(&self) -> Vec<K> {
        self.iter().map(|(key, _)| key).collect()
    }
}

impl<K, T: fmt::Debug> fmt::Debug for Slab<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slab").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_id_finds_nothing() {
        let mut slab: Slab<LinkId, &str> = Slab::new();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(first.index(), second.index());
        assert_eq!(slab.find(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.find(second), Some(&"second"));
        assert_eq!(slab.len(), 1);
    }
}
