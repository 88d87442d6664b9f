//! Brings what steps printed to the disk. Floor 3.
//!
//! **Invariant:** when [`sync`] returns well, the logs and the names on the way to them survive a power cut; many logs cost one
//! wait.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::adapters::spool::SpoolError;
use crate::adapters::spool::commit::Commit;

/// Syncs logs, the marks beside them, and their directories up to the task's own. What is not there is passed over: a silent
/// step has no log.
///
/// # Errors
/// When a file cannot be opened or synced.
pub fn sync(logs: &[PathBuf]) -> Result<(), SpoolError> {
    let mut commit = Commit::default();
    for log in logs {
        let mut any = false;
        for path in [log.clone(), log.with_extension("streams")] {
            match File::open(&path) {
                Ok(file) => {
                    commit.file(&path, file);
                    any = true;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(SpoolError::io("open", &path, error)),
            }
        }
        // The host's directory, `output`, and the task's.
        for dir in log.ancestors().skip(1).take(3).filter(|_| any) {
            commit.dir(Path::to_owned(dir));
        }
    }
    commit.run()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::spool::fault;

    #[test]
    fn logs_are_synced_with_the_names_on_the_way_and_silent_steps_need_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let log = |n: u32| dir.path().join(format!("7/output/web{n}/greet.log"));
        std::fs::create_dir_all(log(1).parent().unwrap()).unwrap();
        fault::after(Some(0));
        assert!(sync(&[log(1), log(2)]).is_ok(), "there is nothing to sync");
        std::fs::write(log(1), "hello").unwrap();
        let failed = sync(&[log(1)]).unwrap_err().to_string();
        fault::after(None);
        assert!(failed.contains("cannot sync"), "{failed}");
        sync(&[log(1), log(2)]).unwrap();
    }
}
