//! What people drop: tasks and orders of every kind, chosen by the seed.

use std::sync::Arc;

use crate::base::digest::Digest;
use crate::base::ids::TaskId;
use crate::domain::run::Run;
use crate::engine::input::DropBox;

use super::World;
use super::parts::Dice;

impl World {
    pub(super) fn drop_task(&mut self) {
        let host = |dice: &mut Dice| format!("h{}", dice.roll(6) + 1);
        let mut hosts: Vec<String> =
            (0..self.dice.between(1, self.knobs.hosts)).map(|_| host(&mut self.dice)).collect();
        hosts.sort();
        hosts.dedup();
        let hosts = serde_json::to_string(&hosts).expect("strings");
        let (template, groups) = match self.dice.roll(5) {
            4 => ("undo", format!("{{\"1\": {hosts}}}")),
            3 => ("gated", format!("{{\"1\": {hosts}}}")),
            0 => ("twice", format!("{{\"1\": {hosts}, \"2\": [\"{}\"]}}", host(&mut self.dice))),
            1 => ("nothing", format!("{{\"1\": {hosts}}}")),
            _ => ("plain", format!("{{\"1\": {hosts}}}")),
        };
        let mut text = format!(r#"{{"task_name": "t", "temp_id": "{template}", "hosts": {groups}"#);
        if self.dice.one_in(self.knobs.exec_time) {
            let at = self.now.plus_ms(self.dice.roll(60_000) as i64 - 10_000);
            text += &format!(r#", "exec_time": "{at}""#);
        }
        if self.dice.one_in(self.knobs.not_after) {
            text += &format!(r#", "not_after": "{}""#, self.now.plus_ms(self.dice.roll(30_000) as i64));
        }
        if self.dice.one_in(self.knobs.keys) {
            text += &format!(r#", "idempotency_key": "k{}""#, self.dice.roll(self.knobs.different_keys));
        }
        if self.dice.one_in(self.knobs.batches) {
            text += r#", "batches": ["1", "2"]"#;
            text += ["", r#", "batch_interval": 3"#, r#", "batch_gate": true"#][self.dice.roll(3) as usize];
            text += ["", r#", "max_fail": 0"#][self.dice.roll(2) as usize];
            text += ["", r#", "batch_max_fail": 0"#][self.dice.roll(2) as usize];
        }
        let drop_box = if self.dice.one_in(self.knobs.ready) { DropBox::Ready } else { DropBox::New };
        let user = ["bob", "boss"][self.dice.roll(2) as usize];
        self.drop_file(drop_box, user, text + "}");
    }

    pub(super) fn drop_order(&mut self) {
        let Some((id, (plan, _))) =
            self.disk.runs.iter().nth(self.dice.roll(self.disk.runs.len().max(1) as u64) as usize)
        else {
            return;
        };
        let step = ["a", "b", "c", "m", "t", "z"][self.dice.roll(6) as usize];
        let hosts =
            if self.dice.one_in(2) { String::new() } else { format!(r#","hosts":["h{}"]"#, self.dice.roll(6) + 1) };
        let until = if self.dice.one_in(4) {
            format!(r#","until":"{}""#, self.now.plus_ms(self.dice.roll(30_000) as i64))
        } else {
            String::new()
        };
        let text = match self.dice.roll(22) {
            6 => format!(r#"{{"order":"withdraw","task":{id}}}"#),
            7 => format!(r#"{{"order":"hold","task":{id},"reason":"sim"}}"#),
            8 => format!(r#"{{"order":"release","task":{id}}}"#),
            9 | 10 => format!(r#"{{"order":"release","task":{id},"step":"{step}"{hosts}}}"#),
            11 => format!(r#"{{"order":"retry","task":{id}{hosts}}}"#),
            12 => format!(r#"{{"order":"retry","task":{id},"hosts":"unfinished"}}"#),
            13 => format!(r#"{{"order":"retry","task":{id},"step":"{step}"{hosts}}}"#),
            14 => format!(r#"{{"order":"skip","task":{id},"step":"{step}","reason":"sim"{hosts}}}"#),
            15 => format!(r#"{{"order":"cancel","task":{id},"reason":"sim","hosts":["h{}"]}}"#, self.dice.roll(6) + 1),
            17 => format!(r#"{{"order":"continue","task":{id},"group":1,"batch":{}}}"#, 2 + self.dice.roll(2)),
            16 => format!(r#"{{"order":"approve","task":{id},"digest":"{}"{until}}}"#, self.digest_of(*id)),
            0 => format!(r#"{{"order":"cancel","task":{id},"reason":"sim"}}"#),
            1 => format!(r#"{{"order":"reject","task":{id},"reason":"sim"}}"#),
            2 => format!(r#"{{"order":"approve","task":{id},"digest":"{}"}}"#, Digest::of(b"another plan")),
            3 => format!(r#"{{"order":"approve","task":{id},"digest":"{}"}}"#, plan.digest()),
            _ => format!(r#"{{"order":"approve","task":{id},"digest":"{}"}}"#, self.digest_of(*id)),
        };
        let user = ["bob", "boss", "deputy"][self.dice.roll(3) as usize];
        self.drop_file(DropBox::Orders, user, text);
    }

    /// Returns the digest of a task's plan as everybody can see it.
    fn digest_of(&self, id: TaskId) -> Digest {
        if let Some(run) = self.engine.as_ref().and_then(|engine| engine.runs.get(&id)) {
            return run.digest;
        }
        let (plan, events) = &self.disk.runs[&id];
        Run::fold(id, Arc::clone(plan), events).expect("the journal folds").digest
    }
}
