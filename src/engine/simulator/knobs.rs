//! What differs from seed to seed beside the numbers rolled: how likely each fault is, how much people want, how long things last.

use super::parts::Dice;

/// Declares the knobs: each with the least and the greatest value that a seed may draw for it.
macro_rules! knobs {
    ($($(#[doc = $doc:literal])+ $name:ident: $least:literal ..= $most:literal;)*) => {
        /// The knobs of a seed. An odds of `n` is one in `n`.
        #[derive(Clone, Copy)]
        pub(super) struct Knobs {
            $($(#[doc = $doc])+ pub(super) $name: u64,)*
        }

        impl Knobs {
            /// Draws all of them.
            pub(super) fn draw(dice: &mut Dice) -> Knobs {
                Knobs { $($name: dice.between($least, $most),)* }
            }
        }

        impl std::fmt::Display for Knobs {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let all = [$((stringify!($name), self.$name)),*];
                let all: Vec<String> = all.iter().map(|(name, value)| format!("{name}={value}")).collect();
                f.write_str(&all.join(" "))
            }
        }
    };
}

knobs! {
    /// How many things happen before the calm.
    things: 60..=260;
    /// Odds of a crash in a turn.
    crash_in_turn: 3..=40;
    /// Odds of a crash between two turns, when it is its turn to happen.
    crash_between: 5..=60;
    /// Odds that no daemon runs for a while after a crash.
    downtime: 1..=6;
    /// How long it lasts at most, in milliseconds.
    downtime_ms: 5_000..=120_000;
    /// Odds that a rename which was not durable is lost in a crash.
    rename_lost: 1..=4;
    /// Odds that a file is shown twice in a look at the boxes.
    shown_twice: 1..=8;
    /// Odds that the daemon takes one more fact in before it performs a turn.
    merge: 2..=10;
    /// Odds that what was read comes late.
    read_late: 1..=8;
    /// Odds that a task cannot be read at the moment.
    read_fails: 10..=80;
    /// Odds of a new library.
    reload: 15..=120;
    /// Odds that somebody sets the clock.
    clock_set: 15..=200;
    /// By how much at most, in milliseconds.
    clock_ms: 1_000..=300_000;
    /// How much time passes at once at most, in milliseconds.
    tick_ms: 500..=20_000;
    /// How often a task is dropped, among everything that happens.
    tasks: 1..=3;
    /// How often an order is.
    orders: 1..=4;
    /// How often a step ends.
    ends: 1..=5;
    /// How often the boxes are looked at.
    looks: 1..=3;
    /// How often time passes.
    ticks: 1..=3;
    /// Odds that a step fails.
    fails: 2..=16;
    /// Odds that one takes too long.
    times_out: 4..=32;
    /// Odds that one was not sent.
    not_sent: 4..=32;
    /// Odds that one is lost.
    lost: 6..=48;
    /// Odds that a kill is not proved at first.
    kill_unconfirmed: 2..=6;
    /// Odds that it never is.
    kill_fails: 3..=12;
    /// How many hosts a task has at most.
    hosts: 1..=6;
    /// Odds of a time of its own.
    exec_time: 2..=8;
    /// Odds of a last time.
    not_after: 3..=16;
    /// Odds of an idempotency key.
    keys: 3..=16;
    /// Of how many different ones.
    different_keys: 1..=6;
    /// Odds of batches.
    batches: 2..=10;
    /// Odds that a task wishes to skip approval.
    ready: 1..=4;
    /// Every so many files lie flat in their boxes.
    flat: 4..=16;
}
