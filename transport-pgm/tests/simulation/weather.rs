//! What happens to packets, as probabilities, and the dice.

use fabriq_transport_pgm::packet::Kind;

use super::air::Micros;

/// SplitMix64.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
    /// True so often.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        ((self.next() >> 11) as f64) < probability * (1u64 << 53) as f64
    }
}

/// Conditions of a network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Loss of original data, repairs, NAKs, and of NCFs and SPMs.
    pub(crate) data_loss: f64,
    pub(crate) repair_loss: f64,
    pub(crate) nak_loss: f64,
    pub(crate) ncf_loss: f64,
    /// Packets that are lost before the network branches: to all receivers at once.
    pub(crate) upstream_loss: f64,
    /// How often a burst begins, and its mean length in packets.
    pub(crate) burst: Option<(f64, u32)>,
    pub(crate) repeated: f64,
    pub(crate) damaged: f64,
    /// One way, in microseconds, and how much may come on top.
    pub(crate) delay: Micros,
    pub(crate) jitter: Micros,
    /// How often a packet is late by up to so much more.
    pub(crate) late: f64,
    pub(crate) late_by: Micros,
}

impl Weather {
    /// A local network on a good day.
    pub(crate) const CALM: Self = Self {
        data_loss: 0.0,
        repair_loss: 0.0,
        nak_loss: 0.0,
        ncf_loss: 0.0,
        upstream_loss: 0.0,
        burst: None,
        repeated: 0.0,
        damaged: 0.0,
        delay: 50,
        jitter: 20,
        late: 0.0,
        late_by: 0,
    };

    /// Everything is lost so often.
    pub(crate) const fn lossy(loss: f64) -> Self {
        Self { data_loss: loss, repair_loss: loss, nak_loss: loss, ncf_loss: loss, ..Self::CALM }
    }

    /// Downstream packets are lost so often, as when receivers lose on input; NAKs are not.
    pub(crate) const fn lossy_input(loss: f64) -> Self {
        Self { data_loss: loss, repair_loss: loss, ncf_loss: loss, ..Self::CALM }
    }

    pub(crate) fn loss(&self, kind: Kind) -> f64 {
        match kind {
            Kind::Odata => self.data_loss,
            Kind::Rdata => self.repair_loss,
            Kind::Ncf | Kind::Spm => self.ncf_loss,
            _ => self.nak_loss,
        }
    }
}
