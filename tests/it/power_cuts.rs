//! The power is cut at random moments of a mixed load, and everything is compared with what the scripts did.

use std::io::Write as _;
use std::time::Duration;

use crate::cut_disk::{Cache, CutDisk};
use crate::figures::Figures;
use crate::mixed_load::{Dice, Load};
use crate::remote::from_env;
use crate::sshd::Sshd;
use crate::world::World;

/// How many times a world's power is cut: few enough that one world can be replayed.
const CUTS_EACH: u64 = 10;

/// `make powercut` makes it a campaign.
#[test]
fn cutting_the_power_at_random_moments_loses_nothing() {
    let (cuts, first) = (from_env("CUTS", 3), from_env("CUT_SEED", 1));
    let mut all = Figures::default();
    for seed in first..first + cuts.div_ceil(CUTS_EACH) {
        let count = CUTS_EACH.min(cuts - (seed - first) * CUTS_EACH);
        eprintln!("{count} cuts; replay: make powercut CUT_SEED={seed} CUTS={count}");
        let Some(figures) = cut(seed, count) else {
            eprintln!("left out: this machine lets nobody mount a file as a disk (mkfs.ext4, FUSE, loop devices)");
            return;
        };
        eprintln!("seed {seed}: {}", figures.told());
        all.add(figures);
    }
    eprintln!("{cuts} power cuts from seed {first} on: {}", all.told());
    assert!(all.is_clean(), "{}", all.told());
}

fn cut(seed: u64, cuts: u64) -> Option<Figures> {
    // On a thread of its own: its mounts are nobody else's.
    std::thread::scope(|scope| scope.spawn(|| cut_here(seed, cuts)).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn cut_here(seed: u64, cuts: u64) -> Option<Figures> {
    let sshd = Sshd::start();
    let mut world = World::new(&[], Some(&sshd));
    let mut dice = Dice(seed);
    // How soon what nobody syncs is on the disk, and whether a file that replaces another one is there before its name is.
    let options =
        dice.one_of(&["commit=1", "commit=5", "commit=300", "commit=1,noauto_da_alloc", "commit=300,noauto_da_alloc"]);
    let dir = world.etc().parent().unwrap().to_owned();
    let mut disk = CutDisk::make(&dir, &world.state(), options)?;
    let mut load = Load::prepare(&world, &sshd);
    let pause = |ms: u64| std::thread::park_timeout(Duration::from_millis(ms));
    let mut figures = Figures::default();
    world.start();
    for _ in 0..cuts {
        for _ in 0..=dice.roll(4) {
            let is_synced = dice.roll(2) == 0;
            load.drop_one(&world, &mut dice, is_synced);
            pause(dice.roll(60));
        }
        load.order_some(&world, &mut dice);
        let most = dice.one_of(&[10, 300, 1_500]);
        pause(dice.roll(most));
        let cut = |disk: CutDisk, world: &mut World, dice: &mut Dice| {
            let cache = dice.one_of(&[Cache::Lost, Cache::Kept, Cache::Mixed, Cache::Mixed]);
            disk.cut(cache, dice, options, || world.kill_daemon())
        };
        disk = cut(disk, &mut world, &mut dice);
        // Now and then a second time, while what the first one left is repaired.
        if dice.roll(4) == 0 {
            world.spawn();
            pause(dice.roll(200));
            disk = cut(disk, &mut world, &mut dice);
        }
        world.start();
        load.come_to_rest(&world);
        figures = load.compare(&world);
        if !figures.is_clean() {
            break;
        }
    }
    let figures = figures.or_keep(&world, seed);
    world.kill_daemon();
    drop(disk);
    Some(figures)
}

#[test]
fn a_cut_drops_what_nobody_synced_and_nothing_else() {
    let cut = || {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("place");
        let options = "commit=300";
        let mut disk = CutDisk::make(dir.path(), &place, options)?;
        let write = |name: &str, text: &str, is_synced: bool| {
            let mut file =
                std::fs::File::options().create(true).write(true).truncate(false).open(place.join(name)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            if is_synced {
                file.sync_all().unwrap();
                std::fs::File::open(&place).unwrap().sync_all().unwrap();
            }
        };
        let read = |name: &str| std::fs::read_to_string(place.join(name)).ok();
        let mut dice = Dice(7);
        for (n, cache) in [Cache::Lost, Cache::Kept, Cache::Mixed].into_iter().enumerate() {
            write("kept", &format!("{n} is kept"), true);
            write("lost", "lost", false);
            write("kept", &format!("{n} is lost"), false);
            disk = disk.cut(cache, &mut dice, options, || {
                assert!(read("lost").is_some(), "it is there before");
                assert!(std::fs::File::open(&place).unwrap().sync_all().is_err(), "and nothing gets there any more");
            });
            assert_eq!((read("kept"), read("lost")), (Some(format!("{n} is kept")), None));
        }
        Some(())
    };
    // On a thread of its own: its mounts are nobody else's.
    let done =
        std::thread::scope(|scope| scope.spawn(cut).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    if done.is_none() {
        eprintln!("left out: this machine lets nobody mount a file as a disk (mkfs.ext4, FUSE, loop devices)");
    }
}
