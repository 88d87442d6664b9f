//! What the runner does on a host whose disks are full, or whose files cannot be written any more.

use spoolgate::base::count::Count;
use spoolgate::base::limits;
use spoolgate::domain::runner::answer::{Shown, Verdict};

use crate::runner::{Account, SHELLS, check, each_shell, plan};

/// The places that a runner may use on a host of its own, the first of which is its home.
const PLACES: [&str; 3] = ["/mnt", "/var/tmp", "/tmp"];

/// An account on a host whose disks are small: for each place, how large, as mount(8) has it.
fn cramped(shell: &[&str], sizes: [&str; 3]) -> Account {
    let mount = |(size, place)| format!("mount -t tmpfs -o mode=1777,{size} none {place} && ");
    let mounts: String = sizes.into_iter().zip(PLACES).map(mount).collect();
    let text = format!("{mounts}export HOME={} && exec {}", PLACES[0], shell.join(" "));
    let words: Vec<&'static str> = vec!["unshare", "-m", "sh", "-c", Box::leak(text.into_boxed_str())];
    Account::new(Box::leak(words.into_boxed_slice()))
}

#[test]
fn what_finds_no_room_on_the_host_is_counted_and_said() {
    for shell in SHELLS {
        let account = cramped(shell, ["size=64k"; 3]);
        let print = |bytes: u32| format!("head -c {bytes} /dev/zero | tr '\\0' x");
        let step = plan(&format!("{}; {} >&2; exit 4", print(300_000), print(10)), 30);
        let heard = account.run(&step);
        let Some((Verdict::Exit(4), out, _)) = heard.ended else {
            panic!("{shell:?} {:?} {}", heard.ended, heard.noise)
        };
        let (total, kept) = (out.total.unwrap(), heard.out.len() as u64);
        assert!(heard.full && kept < 65_536, "{shell:?}: {kept} of {out:?}");
        assert!(total <= 300_000.into() && total > (300_000 - 65_536).into(), "{shell:?}: {out:?}");
        assert_eq!(total.less(out.cut).get(), kept, "{shell:?}: {out:?}");
    }
}

#[test]
fn a_step_runs_from_another_directory_when_the_home_is_full() {
    for shell in SHELLS {
        for home in ["size=4k,nr_inodes=3", "size=64k,nr_inodes=2"] {
            let account = cramped(shell, [home, "size=1m", "size=1m"]);
            let step = plan("echo \"$0\"; exit 5", 30);
            let heard = account.run(&step);
            let said = String::from_utf8_lossy(&heard.out).into_owned();
            assert!(
                said.starts_with("/var/tmp/.spoolgate-0/"),
                "{shell:?} {home}: {said} {:?} {}",
                heard.refused,
                heard.noise
            );
            assert_eq!(
                heard.ended,
                Some((Verdict::Exit(5), Shown::default(), Shown { total: Some(Count::ZERO), ..Shown::default() }))
            );
        }
    }
}

#[test]
fn where_there_is_no_room_at_all_the_reason_and_the_places_are_said() {
    let account = cramped(SHELLS[0], ["nr_inodes=2", "size=4k,nr_inodes=1", "nr_inodes=1"]);
    let heard = account.run(&plan("echo ran", 30));
    let why = heard.refused.clone().unwrap_or_default();
    assert!(heard.ended.is_none() && heard.out.is_empty(), "{:?}", heard.ended);
    assert_eq!(
        why, "no room for the runner's files: /mnt/.spoolgate (No space left on device); make room there, then retry",
        "{}",
        heard.noise
    );
}

/// Wherever the host runs out of files: the step runs, or the reason is said.
#[test]
fn a_host_that_runs_out_of_files_is_told_of_or_runs_it() {
    for shell in SHELLS {
        let mut ran = 0;
        for files in 2..16 {
            let size = format!("nr_inodes={files}");
            let account = cramped(shell, [&size, &size, &size]);
            let heard = account.run(&plan("echo out; echo err >&2; sleep 0.4; echo more; exit 5", 30));
            match heard.ended.map(|ended| ended.0) {
                Some(Verdict::Exit(5)) => {
                    ran += 1;
                    assert_eq!((heard.out.as_slice(), heard.full), (&b"out\nmore\n"[..], false), "{shell:?} {files}");
                }
                None => {
                    let why = heard.refused.unwrap_or_else(|| panic!("{shell:?} {files}: no word: {}", heard.noise));
                    assert!(why.contains("No space left on device") || why.contains("full"), "{why}");
                }
                other => panic!("{shell:?} {files}: {other:?}"),
            }
        }
        assert!(ran > 3, "{shell:?}: it ran with room for {ran} of 14");
    }
}

#[test]
fn what_a_script_does_to_the_runners_files_does_not_end_the_runner() {
    each_shell(|account| {
        let spoil = "cd \"$HOME/.spoolgate\"; rm -f *.seen.*; mkdir $(ls *.state | sed 's/.state$/.x/')";
        let step = plan(&format!("echo one; {spoil}; sleep 0.5; echo two; exit 3"), 30);
        check(&account.run(&step), Verdict::Exit(3), "one\ntwo\n", "");
    });
}

#[test]
fn what_is_printed_beyond_the_head_is_counted_while_somebody_holds_the_stream() {
    each_shell(|account| {
        let total = limits::OUTPUT_HEAD_BYTES + (limits::OUTPUT_TAIL_BYTES * 3) / 2;
        let step = plan(&format!("head -c {total} /dev/zero | tr '\\0' x; sleep 20 & exit 0"), 60);
        let heard = account.run(&step);
        let Some((Verdict::Exit(0), out, _)) = heard.ended else { panic!("{:?} {}", heard.ended, heard.noise) };
        assert_eq!(out.total.unwrap().less(out.cut).get(), heard.out.len() as u64, "{out:?}");
        assert_eq!(out.total, Some(total.into()));
    });
}
