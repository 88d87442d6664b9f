//! Faults of the engine and of whoever performs its turns, and whether the laws find them.

use std::panic::catch_unwind;
use std::sync::Mutex;

use super::live;
use crate::engine::turn::Stage;

/// Something that is done wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// Dropped files are taken away before what they became is on disk.
    TakesFirst,
    /// Steps are sent before their start is on disk.
    ActsFirst,
    /// What people see is changed before the events that say so.
    ShowsFirst,
    /// What a turn appends to journals is on disk only after the next one.
    ForgetsToSync,
    /// After a start, a step that a host may have begun is sent as a new one.
    StartsTwice,
    /// Of several tasks' events the last one's are not written.
    LosesAnAppend,
    /// An order's file goes, and what it did is not written.
    LosesAnOrder,
}

const ALL: [Mutant; 7] = [
    Mutant::TakesFirst,
    Mutant::ActsFirst,
    Mutant::ShowsFirst,
    Mutant::ForgetsToSync,
    Mutant::StartsTwice,
    Mutant::LosesAnAppend,
    Mutant::LosesAnOrder,
];

impl Mutant {
    /// Changes the stages of a turn.
    pub(super) fn change(self, stages: &mut [Stage]) {
        let at = |wanted: fn(&Stage) -> bool| stages.iter().position(wanted).expect("every turn has every stage");
        let commit = at(|stage| matches!(stage, Stage::Commit(_)));
        let (take, show) = (at(|stage| matches!(stage, Stage::Take(_))), at(|stage| matches!(stage, Stage::Show(_))));
        let act = at(|stage| matches!(stage, Stage::Act(_)));
        match self {
            Mutant::TakesFirst => stages.swap(commit, take),
            Mutant::ActsFirst => stages[commit..=act].rotate_right(1),
            Mutant::ShowsFirst => stages[commit..=show].rotate_right(1),
            Mutant::LosesAnAppend | Mutant::LosesAnOrder => {
                let Stage::Commit(commit) = &mut stages[commit] else { return };
                let order = |recorded: &crate::domain::run::Recorded| recorded.event.order().is_some();
                if self == Mutant::LosesAnAppend && commit.appends.len() > 1 {
                    commit.appends.pop();
                } else if self == Mutant::LosesAnOrder {
                    commit.appends.retain(|(_, events)| !events.iter().any(order));
                }
            }
            Mutant::ForgetsToSync | Mutant::StartsTwice => {}
        }
    }
}

#[test]
fn the_laws_find_what_is_done_wrongly() {
    const SEEDS: u64 = 1_000;
    let found = Mutex::new(Vec::new());
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|threads| {
        for mutants in ALL.chunks(ALL.len().div_ceil(2)) {
            let found = &found;
            threads.spawn(move || {
                for mutant in mutants {
                    let seed = (0..SEEDS).find(|seed| catch_unwind(|| live(*seed, Some(*mutant))).is_err());
                    found.lock().expect("nobody panics with it").push((*mutant, seed));
                }
            });
        }
    });
    std::panic::set_hook(hook);
    let found = found.into_inner().expect("nobody panicked with it");
    for (mutant, seed) in &found {
        println!("{mutant:?}: found by seed {seed:?}");
    }
    assert!(found.iter().all(|(_, seed)| seed.is_some()), "not found within {SEEDS} seeds: {found:?}");
}
