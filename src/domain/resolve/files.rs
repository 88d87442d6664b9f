//! The files that steps carry, for a plan. Floor 1.
//!
//! **Invariant:** what a host gets is named by its digest; of templates of files the plan holds what they became.

use std::collections::BTreeMap;

use super::find_hosts::HostFinder;
use crate::base::digest::Digest;
use crate::base::ids::{ParamName, StepName};
use crate::base::limits;
use crate::domain::condition::Typed;
use crate::domain::file_step::{
    FileWork, Files, Place, PlannedFetch, PlannedFile, Source, Texts, is_beneath, is_whole_path,
};
use crate::domain::plan::{PlannedGroup, PlannedStep};
use crate::domain::problem::Problem;
use crate::domain::template::{Param, ParamKind, fill, placeholders};

/// The templates of files that a step fills in, by where they stand beneath its place.
pub(super) type Sources = BTreeMap<String, Source>;

/// What the files of steps are planned with.
pub(super) struct FilePlanner<'a> {
    pub(super) params: &'a [Param],
    pub(super) values: &'a BTreeMap<ParamName, String>,
    pub(super) files: &'a dyn Files,
    /// What is to be filled in for each host, once hosts are known.
    pub(super) sources: BTreeMap<StepName, Sources>,
    pub(super) problems: &'a mut Vec<Problem>,
}

impl FilePlanner<'_> {
    /// Adds to a step what it carries.
    pub(super) fn plan(&mut self, work: &FileWork, step: PlannedStep) -> PlannedStep {
        match work {
            FileWork::Copy { from, to } => PlannedStep { files: self.copied(from, to, &step.name), ..step },
            FileWork::Render { sources, from, to } => {
                let place = self.path(&to.path, &step.name, is_whole_path).unwrap_or_default();
                let file = |below: &String| {
                    let mode = to.mode.clone().unwrap_or_else(|| "0644".to_owned());
                    planned(joined(from, below), joined(&place, below), mode, to, None)
                };
                self.sources.insert(step.name.clone(), sources.clone());
                PlannedStep { files: sources.keys().map(file).collect(), ..step }
            }
            FileWork::Fetch { path, most_bytes } => {
                let path = self.path(path, &step.name, is_whole_path).unwrap_or_default();
                let args = vec![path.clone(), most_bytes.to_string()];
                PlannedStep { args, fetch: Some(PlannedFetch { most_bytes: *most_bytes, path }), ..step }
            }
        }
    }

    fn copied(&mut self, from: &str, to: &Place, step: &StepName) -> Vec<PlannedFile> {
        let place = self.path(&to.path, step, is_whole_path);
        let (Some(from), Some(place)) = (self.path(from, step, is_beneath), place) else { return Vec::new() };
        let found = match self.files.find(&from) {
            Ok(found) => found,
            Err(wanted) => {
                self.problems.push(Problem::new("/args", format!("{from} in the step {step}"), wanted));
                return Vec::new();
            }
        };
        let file = |found: crate::domain::file_step::FoundFile| {
            let mode = to.mode.clone().unwrap_or(found.mode);
            planned(joined(&from, &found.below), joined(&place, &found.below), mode, to, Some(found.digest))
        };
        found.into_iter().map(file).collect()
    }

    /// Fills values into a path. A value becomes one part of it, unless it is declared to be a path.
    fn path(&mut self, text: &str, step: &StepName, good: fn(&str) -> bool) -> Option<String> {
        for name in placeholders(text).unwrap_or_default() {
            let is_path = self.params.iter().any(|param| param.name == name && param.kind == ParamKind::Path);
            if let Some(value) = self.values.get(&name).filter(|value| !is_path && value.contains('/')) {
                let wanted = "a value without /, or a parameter with type = \"path\"";
                self.problems.push(Problem::new(format!("/args/{name}"), value, wanted));
                return None;
            }
        }
        let filled = fill(text, self.values);
        if !good(&filled) {
            let wanted = format!("values that make a path without .. for the step {step}");
            self.problems.push(Problem::new("/args", filled, wanted));
            return None;
        }
        Some(filled)
    }
}

fn planned(from: String, to: String, mode: String, place: &Place, digest: Option<Digest>) -> PlannedFile {
    PlannedFile { digest, from, mode, of_host: BTreeMap::new(), owner: place.owner.clone(), to }
}

/// Returns a name, or what stands beneath it.
fn joined(name: &str, below: &str) -> String {
    if below.is_empty() { name.to_owned() } else { format!("{}/{below}", name.trim_end_matches('/')) }
}

/// Fills in the templates of files for every host that takes their step; returns what they became.
pub(super) fn fill_in(
    groups: &mut [PlannedGroup],
    hosts: &HostFinder<'_>,
    (params, typed): (&BTreeMap<ParamName, String>, &BTreeMap<ParamName, Typed>),
    sources: &BTreeMap<StepName, Sources>,
    problems: &mut Vec<Problem>,
) -> Texts {
    let mut texts = Texts::new();
    let mut bytes = 0_usize;
    for group in groups {
        for step in &mut group.steps {
            let Some(sources) = sources.get(&step.name) else { continue };
            for (file, source) in step.files.iter_mut().zip(sources.values()) {
                for name in group.hosts.iter().filter(|name| !step.not_on.contains(*name)) {
                    let (Some(host), Some(planned)) =
                        (hosts.library.inventory.hosts.get(name), hosts.planned.get(name))
                    else {
                        continue;
                    };
                    let filled = source.fill(&planned.facts(name, (params, typed), &host.vars, Vec::new()));
                    match filled {
                        Ok(text) => {
                            let digest = Digest::of(text.as_bytes());
                            file.of_host.insert(name.clone(), digest);
                            bytes = bytes.saturating_add(if texts.contains_key(&digest) { 0 } else { text.len() });
                            texts.insert(digest, text);
                        }
                        Err(why) => {
                            let wanted = format!("values for everything that {} asks for, on {name}", file.from);
                            problems.push(Problem::new("/args", why, wanted));
                        }
                    }
                    if problems.len() >= limits::PROBLEMS_MAX {
                        return texts;
                    }
                }
                let mut digests = file.of_host.values();
                if let Some(first) = digests.next().copied().filter(|first| digests.all(|other| other == first)) {
                    (file.digest, file.of_host) = (Some(first), BTreeMap::new());
                }
            }
        }
    }
    if bytes > limits::RENDERED_BYTES_PER_PLAN {
        let wanted = format!("at most {} bytes over all hosts", limits::RENDERED_BYTES_PER_PLAN);
        problems.push(Problem::new("/hosts", format!("{bytes} bytes of files that are filled in"), wanted));
    }
    texts
}
