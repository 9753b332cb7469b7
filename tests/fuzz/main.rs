//! Hostile files: whatever a model's files say, reading them ends soon and in little memory, with a result or with an
//! error that says what is wrong. Nothing panics, nothing is our own mistake.
//!
//! A case is a target and a seed: one of the target's sets of files, and some changes that the seed decides. It is the
//! same on every machine. `npm test` runs the corpus and the first seeds of every target; `npm run fuzz` others, as long
//! as it is told to.

mod corpus;
mod guard;
mod json;
mod mutate;
mod random;
mod targets;
mod tensors;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use mutate::{Files, mutate};
use random::Random;
use targets::{TARGETS, Target};

/// Changes of one case at most.
const CHANGES: usize = 5;

/// A target with what its cases are made of: its own sets of files, and the corpus.
struct Ready {
    target: &'static Target,
    seeds: Vec<Files>,
    open: Vec<Vec<String>>,
}

impl Ready {
    fn new(target: &'static Target) -> Ready {
        let mut seeds = (target.seeds)();
        let over = |(_, files): (String, Files)| seeds[0].clone().into_iter().chain(files).collect();
        let more: Vec<Files> = corpus::of(target.name).into_iter().map(over).collect();
        seeds.extend(more);
        let open = |files: &Files| {
            let paths = files.keys().filter(|path| target.open.iter().any(|end| path.ends_with(end)));
            paths.cloned().collect()
        };
        let open = seeds.iter().map(open).collect();
        Ready { target, seeds, open }
    }

    /// The files of a seed after its first changes, and how many it has.
    fn case(&self, seed: u64, changes: usize) -> (Files, usize) {
        let mut random = Random::new(self.target.name, seed);
        let set = random.below(self.seeds.len());
        let mut files = self.seeds[set].clone();
        let all = 1 + random.below(CHANGES);
        for _ in 0..changes.min(all) {
            mutate(&mut files, &self.open[set], &mut random);
        }
        (self.target.finish)(&mut files, &mut random);
        (files, all)
    }

    /// What is wrong with a case, after as few of its changes as it takes.
    fn run(&self, seed: u64) -> Option<String> {
        let name = format!("{}:{seed}", self.target.name);
        let run = self.target.run;
        let (whole, all) = self.case(seed, CHANGES);
        guard::watched(&name, &whole, run)?;
        let found = (1..=all).find_map(|changes| {
            let (files, _) = self.case(seed, changes);
            Some((guard::watched(&name, &files, run)?, files))
        });
        let (what, files) = found?;
        Some(format!("{what}\n  {name}, kept in {}", corpus::keep(&name, &files).display()))
    }
}

/// The tests count memory and time: one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|e| e.into_inner())
}

/// Fails with all findings at once, of equal ones the first.
fn none(findings: impl IntoIterator<Item = String>) {
    let mut seen = HashSet::new();
    let all = findings.into_iter().filter(|f| seen.insert(f.lines().next().map(str::to_owned)));
    let all: Vec<String> = all.collect();
    assert!(all.is_empty(), "{} findings:\n{}", all.len(), all.join("\n"));
}

#[test]
fn files_that_nobody_changed() {
    let _alone = alone();
    for target in &TARGETS {
        for files in (target.seeds)() {
            assert_eq!(guard::watched(target.name, &files, target.run), None, "{}", target.name);
            // Else the changes would show nothing but the same refusal.
            if let Err(e) = (target.run)(&files) {
                panic!("{}: {:?}: {e}", target.name, files.keys());
            }
        }
    }
}

#[test]
fn the_corpus() {
    let _alone = alone();
    let cases = TARGETS.iter().flat_map(|target| {
        let first = (target.seeds)().remove(0);
        corpus::of(target.name).into_iter().filter_map(move |(name, files)| {
            let files = first.clone().into_iter().chain(files).collect();
            Some(format!("{name}: {}", guard::watched(&name, &files, target.run)?))
        })
    });
    none(cases);
}

#[test]
fn the_first_seeds() {
    let _alone = alone();
    none(TARGETS.iter().flat_map(|target| {
        let ready = Ready::new(target);
        (0..target.cases).filter_map(move |seed| ready.run(seed)).collect::<Vec<_>>()
    }));
}

/// One case again, as `npm run fuzz -- --case TARGET:SEED` says; or the targets in turn for some minutes.
#[test]
#[ignore = "npm run fuzz says how long"]
fn by_time() {
    let _alone = alone();
    let told = |name: &str| std::env::var(name).ok();
    if let Some(case) = told("FUZZ_CASE") {
        let (name, seed) = case.split_once(':').expect("a target, a colon and a seed");
        let target = TARGETS.iter().find(|target| target.name == name).expect("the name of a target");
        return none(Ready::new(target).run(seed.parse().expect("a seed")));
    }
    let minutes: f64 = told("FUZZ_MINUTES").map_or(1.0, |m| m.parse().expect("a number of minutes"));
    let only = told("FUZZ_TARGETS").unwrap_or_default();
    let wanted = |target: &&Target| only.is_empty() || only.split(' ').any(|name| name == target.name);
    let ready: Vec<Ready> = TARGETS.iter().filter(wanted).map(Ready::new).collect();
    assert!(
        !ready.is_empty(),
        "wanted some of {:?}, found {only:?}",
        TARGETS.each_ref().map(|target| target.name)
    );
    let mut done: BTreeMap<&str, u64> = BTreeMap::new();
    let mut findings = vec![];
    // Others than last time.
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
    let (first, begun) = (since.as_secs() << 20, Instant::now());
    let mut quarters = 0;
    while begun.elapsed().as_secs_f64() < minutes * 60.0 {
        for ready in &ready {
            let turn = Instant::now();
            while turn.elapsed() < Duration::from_millis(500) {
                let count = done.entry(ready.target.name).or_default();
                findings.extend(ready.run(first + *count));
                *count += 1;
            }
        }
        let now = begun.elapsed().as_secs() / 15;
        if now > quarters {
            quarters = now;
            println!("{} s: {} cases, {} findings", now * 15, done.values().sum::<u64>(), findings.len());
        }
    }
    for (name, count) in &done {
        println!("{name}: {count} cases from seed {first} on");
    }
    none(findings);
}
