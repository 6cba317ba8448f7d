//! Timers of legs: slots of 5 ms, so that the prompts of a thousand calls wake the thread 200 times a second at most.

pub const SLOT_US: u64 = 5_000;
const SLOTS: u64 = 512;

/// The farthest a timer reaches; later deadlines are looked at again then.
pub const HORIZON_US: u64 = SLOT_US * (SLOTS - 2);

/// Names a leg in the wheel: its place and the generation of that place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub index: u32,
    pub generation: u32,
}

pub struct Wheel {
    slots: Vec<Vec<(Key, u64)>>,
    /// The first slot that has not been run yet, counted from the start of time.
    next: u64,
    count: usize,
}

impl Default for Wheel {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), next: 0, count: 0 }
    }
}

impl Wheel {
    /// The slot boundary at or after `due_us`, not before the slots still to run and not beyond the horizon.
    /// This is when an insert for `due_us` will run.
    pub fn slot_time(&self, due_us: u64) -> u64 {
        let slot = due_us.div_ceil(SLOT_US).clamp(self.next, self.next + SLOTS - 2);
        slot * SLOT_US
    }

    /// Enter a timer and return when it will run.
    pub fn insert(&mut self, due_us: u64, key: Key) -> u64 {
        let time = self.slot_time(due_us);
        self.slots[(time / SLOT_US % SLOTS) as usize].push((key, time));
        self.count += 1;
        time
    }

    /// Move all timers that are due at `now_us` to `due`, with the time each was entered for.
    pub fn run(&mut self, now_us: u64, due: &mut Vec<(Key, u64)>) {
        let last = now_us / SLOT_US;
        if self.count == 0 {
            self.next = self.next.max(last + 1);
            return;
        }
        while self.next <= last {
            let slot = &mut self.slots[(self.next % SLOTS) as usize];
            self.count -= slot.len();
            due.append(slot);
            self.next += 1;
            if self.count == 0 {
                self.next = last + 1;
            }
        }
    }

    /// When the next timer runs, if there is one.
    pub fn next_us(&self) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        (self.next..self.next + SLOTS).find(|slot| !self.slots[(slot % SLOTS) as usize].is_empty()).map(|s| s * SLOT_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> Key {
        Key { index, generation: 0 }
    }

    fn run(wheel: &mut Wheel, now_us: u64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.run(now_us, &mut due);
        due.into_iter().map(|(key, _)| key.index).collect()
    }

    #[test]
    fn a_timer_runs_at_the_first_slot_not_before_its_time() {
        let mut wheel = Wheel::default();
        assert_eq!(wheel.insert(12_000, key(1)), 15_000);
        assert_eq!(wheel.insert(15_000, key(2)), 15_000);
        assert_eq!(wheel.next_us(), Some(15_000));
        assert_eq!(run(&mut wheel, 14_999), []);
        assert_eq!(run(&mut wheel, 15_000), [1, 2]);
        assert_eq!(wheel.next_us(), None);
    }

    #[test]
    fn a_late_run_catches_up_in_order_and_a_past_timer_runs_next() {
        let mut wheel = Wheel::default();
        wheel.insert(20_000, key(2));
        wheel.insert(10_000, key(1));
        assert_eq!(run(&mut wheel, 1_000_000), [1, 2]);
        assert_eq!(wheel.insert(3, key(3)), 1_005_000);
        assert_eq!(run(&mut wheel, 1_005_000), [3]);
    }

    #[test]
    fn a_far_timer_comes_at_the_horizon() {
        let mut wheel = Wheel::default();
        assert_eq!(run(&mut wheel, 10 * HORIZON_US), []);
        let time = wheel.insert(u64::MAX / 2, key(1));
        assert!(time <= 11 * HORIZON_US + SLOT_US && time > 10 * HORIZON_US);
        assert_eq!(run(&mut wheel, time - 1), []);
        assert_eq!(run(&mut wheel, time), [1]);
    }

    #[test]
    fn every_timer_runs_once_over_many_turns() {
        let mut wheel = Wheel::default();
        let mut ran = 0;
        let mut now = 0;
        for n in 0..5000u32 {
            wheel.insert(now + u64::from(n % 700) * 3_000, key(n));
            now += 1_700;
            ran += run(&mut wheel, now).len();
        }
        while let Some(next) = wheel.next_us() {
            ran += run(&mut wheel, next).len();
        }
        assert_eq!(ran, 5000);
    }
}
