//! The daemon is killed at random moments of a mixed load, and everything is compared with what the scripts did.

use std::time::Duration;

use crate::figures::Figures;
use crate::mixed_load::{Dice, Load, busy};
use crate::remote::from_env;
use crate::sshd::Sshd;
use crate::world::{World, wait_at_most};

/// How many times a world's daemon is killed: few enough that one world can be replayed.
const KILLS_EACH: u64 = 50;

/// `make kill` makes it a campaign.
#[test]
fn killing_the_daemon_at_random_moments_loses_nothing() {
    let (kills, first) = (from_env("KILLS", 15), from_env("KILL_SEED", 1));
    let mut all = Figures::default();
    for seed in first..first + kills.div_ceil(KILLS_EACH) {
        let count = KILLS_EACH.min(kills - (seed - first) * KILLS_EACH);
        eprintln!("{count} kills; replay: make kill KILL_SEED={seed} KILLS={count}");
        let figures = kill(seed, count);
        eprintln!("seed {seed}: {}", figures.told());
        all.add(figures);
    }
    eprintln!("{kills} kills from seed {first} on: {}", all.told());
    assert!(all.is_clean(), "{}", all.told());
}

fn kill(seed: u64, kills: u64) -> Figures {
    let sshd = Sshd::start();
    let mut world = World::new(&[], Some(&sshd));
    let mut load = Load::prepare(&world, &sshd);
    let mut dice = Dice(seed);
    let pause = |ms: u64| std::thread::park_timeout(Duration::from_millis(ms));
    for kill in 0..kills {
        if kill > 0 && dice.roll(5) == 0 {
            // Before it is ready.
            world.spawn();
            pause(dice.roll(150));
        } else {
            world.start();
            for _ in 0..=dice.roll(3) {
                load.drop_one(&world, &mut dice, true);
                pause(dice.roll(30));
            }
            load.order_some(&world, &mut dice);
            pause(dice.roll(400));
        }
        world.kill_daemon();
        if dice.roll(3) == 0 {
            load.drop_one(&world, &mut dice, true);
        }
        if busy(&world) > 12 {
            world.start();
            wait_at_most(Duration::from_mins(3), "fewer tasks", || (busy(&world) < 5).then_some(()));
            world.kill_daemon();
        }
    }
    world.start();
    load.come_to_rest(&world);
    load.compare(&world).or_keep(&world, seed)
}

/// What is done to a file's bytes.
type Edit<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
/// Where that is to be found.
type Found = fn(&Figures) -> &Vec<String>;

#[test]
fn the_comparison_finds_what_is_wrong() {
    let sshd = Sshd::start();
    let mut world = World::new(&[], Some(&sshd));
    let mut load = Load::prepare(&world, &sshd);
    let mut dice = Dice(4);
    world.start();
    for _ in 0..3 {
        load.drop_one(&world, &mut dice, true);
    }
    load.come_to_rest(&world);
    // What it has begun to write it writes to the end.
    world.end_daemon(Duration::from_secs(10));
    let whole = load.compare(&world);
    assert!(whole.is_clean() && whole.tasks == 3, "{}", whole.told());
    let host = std::fs::read_dir(world.state().join("runs/1/output")).unwrap().next().unwrap().unwrap().path();
    let log = std::fs::read_dir(host).unwrap().map(|entry| entry.unwrap().path());
    let log = log.filter(|path| path.extension().is_some_and(|ending| ending == "log")).min().unwrap();
    let journal = world.scratch().join("journal");
    let first = |text: &str, word: &str| text.lines().find(|line| line.starts_with(word)).unwrap().to_owned() + "\n";
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let cases: [(&std::path::Path, Edit<'_>, Found); 5] = [
        (&log, &|bytes| [&[bytes[0] ^ 1], &bytes[1..]].concat(), |found| &found.wrong_logs),
        (&log, &|bytes| bytes[..bytes.len() - 1].to_vec(), |found| &found.wrong_logs),
        (&journal, &|bytes| (text(bytes) + &first(&text(bytes), "begin ")).into_bytes(), |found| &found.twice),
        (&journal, &|bytes| text(bytes).replacen("begin ", "other ", 1).into_bytes(), |found| &found.false_outcomes),
        (&journal, &|bytes| text(bytes).replace(" 0\n", " 4\n").into_bytes(), |found| &found.false_outcomes),
    ];
    for (n, (path, edit, found)) in cases.into_iter().enumerate() {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, edit(&bytes)).unwrap();
        let figures = load.compare(&world);
        assert!(!found(&figures).is_empty(), "case {n}: {}", figures.told());
        std::fs::write(path, bytes).unwrap();
    }
    std::fs::rename(world.state().join("runs/1"), world.scratch().join("away")).unwrap();
    assert_eq!(load.compare(&world).lost.len(), 1);
}
