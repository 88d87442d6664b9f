//! What a campaign compared, and what it found wrong.

use std::collections::BTreeMap;
use std::process::Command;

use crate::patience::InTime as _;
use crate::world::World;

/// What was compared, and what was found wrong.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) tasks: usize,
    pub(crate) steps: usize,
    pub(crate) bytes: u64,
    /// How often steps ended how.
    pub(crate) endings: BTreeMap<String, usize>,
    /// Steps of whose output something is missing, and said to be.
    pub(crate) said: usize,
    /// Files that nobody had synced and that a cut took, before they were tasks.
    pub(crate) vanished: usize,
    pub(crate) lost: Vec<String>,
    pub(crate) twice: Vec<String>,
    pub(crate) false_outcomes: Vec<String>,
    pub(crate) wrong_logs: Vec<String>,
    pub(crate) other: Vec<String>,
}

impl Figures {
    /// Adds what was compared elsewhere.
    pub(crate) fn add(&mut self, other: Figures) {
        self.tasks += other.tasks;
        self.steps += other.steps;
        self.bytes += other.bytes;
        for (ending, count) in other.endings {
            *self.endings.entry(ending).or_default() += count;
        }
        self.said += other.said;
        self.vanished += other.vanished;
        self.lost.extend(other.lost);
        self.twice.extend(other.twice);
        self.false_outcomes.extend(other.false_outcomes);
        self.wrong_logs.extend(other.wrong_logs);
        self.other.extend(other.other);
    }

    /// Whether nothing was found wrong.
    pub(crate) fn is_clean(&self) -> bool {
        [&self.lost, &self.twice, &self.false_outcomes, &self.wrong_logs, &self.other].iter().all(|all| all.is_empty())
    }

    /// Keeps a world of which something was found wrong, for a look.
    pub(crate) fn or_keep(self, world: &World, seed: u64) -> Figures {
        if !self.is_clean() {
            let kept = std::env::temp_dir().join(format!("spoolgate-found-wrong-{seed}"));
            let _ = std::fs::remove_dir_all(&kept);
            let from = world.etc().parent().unwrap().to_owned();
            let copied = Command::new("cp").arg("-a").args([&from, &kept]).status_in_time();
            eprintln!("kept for a look ({copied:?}): {}", kept.display());
        }
        self
    }

    /// Returns the figures on a line, and below what was found wrong.
    pub(crate) fn told(&self) -> String {
        let counts = format!(
            "{} tasks, {} steps ({:?}), {} bytes of logs compared: {} lost, {} twice, {} false outcomes, {} wrong logs unsaid, \
             {} other faults ({} logs said to be incomplete, {} files gone that nobody had synced)",
            self.tasks,
            self.steps,
            self.endings,
            self.bytes,
            self.lost.len(),
            self.twice.len(),
            self.false_outcomes.len(),
            self.wrong_logs.len(),
            self.other.len(),
            self.said,
            self.vanished,
        );
        let wrong = [&self.lost, &self.twice, &self.false_outcomes, &self.wrong_logs, &self.other];
        wrong.into_iter().flatten().fold(counts, |told, fault| told + "\n  " + fault)
    }
}
