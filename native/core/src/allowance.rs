//! How many packets of its peer a leg takes: voice and fax have a pace, a loop has none.
//!
//! Two legs whose peers are said to be each other would relay whatever once comes in, over and over again and as fast as the
//! machine can: SDP may say so, and what it names may be another gate, which says the same of this one. Every round takes
//! of every leg's allowance. A leg that has spent it takes nothing until it is whole again: longer than a packet is on its
//! way around, so that the loop is empty by then. The silence after that ends the call.

/// What one packet takes: 250 a second are five times as many as there are of 20 ms, and of 10 ms, the shortest that phones
/// send, still enough for keys beside the sound. A packet alone goes round faster between legs of one machine or network.
const PACKET_US: u64 = 4_000;

/// Packets at once. A network that stood still gives back ten seconds of the shortest ones, or twenty of usual ones.
const BURST: u64 = 1_000;

/// The allowance of one leg.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance {
    /// When it is whole, as long as nothing comes.
    whole_us: u64,
    spent: bool,
}

impl Allowance {
    /// Take a packet; says whether that is allowed.
    #[inline]
    pub fn take(&mut self, now_us: u64) -> bool {
        if self.whole_us <= now_us {
            *self = Self { whole_us: now_us, spent: false };
        } else if self.whole_us - now_us > (BURST - 1) * PACKET_US {
            self.spent = true;
        }
        if !self.spent {
            self.whole_us += PACKET_US;
        }
        !self.spent
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;

    const SECOND_US: u64 = 1_000_000;

    /// How many of `count` packets that come at once are taken.
    fn taken(allowance: &mut Allowance, count: usize, now_us: u64) -> usize {
        (0..count).filter(|_| allowance.take(now_us)).count()
    }

    #[test]
    fn an_hour_of_the_shortest_packets_is_taken_with_a_stall_of_two_seconds_in_every_ten() {
        let mut allowance = Allowance::default();
        for second in 0..3_600u64 {
            let begun_us = second * SECOND_US;
            match second % 10 {
                0 | 1 => {}
                2 => assert_eq!(taken(&mut allowance, 300, begun_us), 300, "held up, and come at once"),
                _ => {
                    let pace = (0..100).filter(|n| allowance.take(begun_us + n * 10_000)).count();
                    assert_eq!(pace, 100);
                }
            }
        }
    }

    #[test]
    fn ten_seconds_of_the_shortest_packets_may_come_at_once_and_no_more() {
        assert_eq!(taken(&mut Allowance::default(), 5_000, 7), 1_000);
    }

    #[test]
    fn once_it_is_spent_nothing_is_taken_until_it_is_whole() {
        let mut allowance = Allowance::default();
        taken(&mut allowance, 1_001, 0);
        let whole_us = 1_000 * PACKET_US;
        for now_us in [1, PACKET_US, SECOND_US, whole_us - 1] {
            assert!(!allowance.take(now_us));
        }
        assert_eq!(taken(&mut allowance, 1_001, whole_us), 1_000);
    }

    #[test]
    fn more_than_250_a_second_for_long_spends_it() {
        let spends = |interval_us: u64| {
            let mut allowance = Allowance::default();
            (0..100_000).any(|n| !allowance.take(n * interval_us))
        };
        assert!(!spends(PACKET_US));
        assert!(spends(PACKET_US - 100));
    }

    /// Packets that go around `legs` legs, a hop of `hop_us` each: how many were relayed, and when the last one was lost.
    fn around(legs: usize, hop_us: u64, packets: u64) -> (u64, Option<u64>) {
        let mut allowances = vec![Allowance::default(); legs];
        let mut on_their_way: BinaryHeap<_> = (0..packets).map(|n| Reverse((n, 0))).collect();
        let mut relayed = 0;
        while let Some(Reverse((now_us, leg))) = on_their_way.pop() {
            if now_us > 60 * SECOND_US {
                return (relayed, None);
            }
            if allowances[leg].take(now_us) {
                relayed += 1;
                on_their_way.push(Reverse((now_us + hop_us, (leg + 1) % legs)));
            } else if on_their_way.is_empty() {
                return (relayed, Some(now_us));
            }
        }
        (relayed, None)
    }

    #[test]
    fn a_loop_of_the_legs_of_one_gate_or_of_two_dies_out() {
        for (legs, hop_us, packets) in
            [(1, 20, 1), (1, 2_000, 1), (2, 20, 40), (2, 1_000, 1), (4, 500, 40), (4, 10_000, 40)]
        {
            let (relayed, ended_us) = around(legs, hop_us, packets);
            assert!(ended_us.is_some_and(|ended_us| ended_us < 10 * SECOND_US), "{legs} legs, hops of {hop_us} us");
            // None has more than its burst and what comes back meanwhile.
            assert!(
                relayed <= legs as u64 * (BURST + 10 * 250),
                "{relayed} packets over {legs} legs, hops of {hop_us} us"
            );
        }
    }

    #[test]
    fn a_loop_that_is_left_goes_round_no_faster_than_the_allowance_comes_back() {
        let (relayed, ended_us) = around(2, 50_000, 24);
        assert_eq!(ended_us, None, "a time of talk ends such a call, silence does not");
        assert!((28_000..=30_000).contains(&relayed), "{relayed} in a minute");
    }
}
