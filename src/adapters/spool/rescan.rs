//! Finds everything that stands in the drop boxes, a part at a time. Floor 3.
//!
//! **Invariant:** a part costs the same however much somebody put into a box, and whoever looks in between loses nothing.

use std::collections::VecDeque;

use nix::dir::{OwningIter, Type};

use crate::adapters::spool::SpoolError;
use crate::adapters::spool::folder::{Folder, is_error_of_the_disk};
use crate::adapters::spool::layout::Layout;
use crate::domain::drop_name::{DropName, is_directory_name, is_drop_name};
use crate::engine::DropBox;

/// How many names are read at once.
const NAMES_AT_ONCE: usize = 4_000;

/// Something that stands in a box.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    /// In which box.
    pub drop_box: DropBox,
    /// Where there.
    pub name: DropName,
    /// Its inode, as its directory says.
    pub inode: u64,
}

/// What a part found.
#[derive(Debug, Default)]
pub struct Part {
    /// Whatever is called like a dropped file.
    pub files: Vec<Standing>,
    /// Directories that may be somebody's own.
    pub directories: Vec<(DropBox, String)>,
    /// Whether everything was looked at.
    pub is_last: bool,
}

/// A look at everything that is under way.
pub struct Rescan {
    layout: Layout,
    /// Directories to list.
    left: VecDeque<(DropBox, Option<String>)>,
    open: Option<(DropBox, Option<String>, OwningIter)>,
}

impl Rescan {
    /// Begins: orders first, since a cancellation must not stand in line behind new tasks.
    #[must_use]
    pub fn begin(layout: &Layout) -> Rescan {
        let boxes = [DropBox::Orders, DropBox::New, DropBox::Ready];
        Rescan {
            layout: layout.clone(),
            left: boxes.into_iter().map(|drop_box| (drop_box, None)).collect(),
            open: None,
        }
    }

    /// Begins with one directory of somebody's own alone.
    #[must_use]
    pub fn of(layout: &Layout, drop_box: DropBox, directory: String) -> Rescan {
        Rescan { layout: layout.clone(), left: [(drop_box, Some(directory))].into(), open: None }
    }

    /// Looks at a directory, too.
    pub fn also(&mut self, drop_box: DropBox, directory: String) {
        let one = (drop_box, Some(directory));
        if !self.left.contains(&one) {
            self.left.push_back(one);
        }
    }

    /// Lists the next part. Hidden names are left alone, and names that are not UTF-8: none of our tools drops such.
    ///
    /// # Errors
    /// When a box itself cannot be listed.
    pub fn part(&mut self) -> Result<Part, SpoolError> {
        let mut part = Part::default();
        for _ in 0..NAMES_AT_ONCE {
            let Some((drop_box, directory, names)) = &mut self.open else {
                match self.left.pop_front() {
                    None => return Ok(Part { is_last: true, ..part }),
                    // Whoever asks has a directory watched before it is listed.
                    Some(first) if first.1.is_some() && !part.directories.is_empty() => {
                        self.left.push_front(first);
                        return Ok(part);
                    }
                    Some((drop_box, directory)) => self.list(drop_box, directory)?,
                }
                continue;
            };
            // A directory that cannot be read on is one that somebody changes: the next look sees the rest.
            let Some(Ok(entry)) = names.next() else {
                self.open = None;
                continue;
            };
            let Ok(name) = entry.file_name().to_str() else { continue };
            if is_drop_name(name) {
                let name = match directory {
                    Some(directory) => DropName::within(directory, name),
                    None => name.into(),
                };
                part.files.push(Standing { drop_box: *drop_box, name, inode: entry.ino() });
            } else if directory.is_none()
                && is_directory_name(name)
                && matches!(entry.file_type(), Some(Type::Directory) | None)
            {
                part.directories.push((*drop_box, name.to_owned()));
                self.left.push_back((*drop_box, Some(name.to_owned())));
            }
        }
        Ok(part)
    }

    fn list(&mut self, drop_box: DropBox, directory: Option<String>) -> Result<(), SpoolError> {
        let listed = Folder::open(&self.layout, drop_box, directory.as_deref()).and_then(|folder| folder.list());
        match listed {
            Ok(dir) => self.open = Some((drop_box, directory, dir.into_iter())),
            Err(error) if directory.is_none() || is_error_of_the_disk(&error) => {
                return Err(SpoolError::io("list", &self.layout.drop_box(drop_box), error));
            }
            // It is no directory, or nobody else may read it.
            Err(_) => {}
        }
        Ok(())
    }
}

impl std::fmt::Debug for Rescan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rescan").field("left", &self.left).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn whatever_stands_in_the_boxes_is_found_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"));
        layout.create(None, true).unwrap();
        let new = layout.drop_box(DropBox::New);
        let mut want: Vec<String> = (0..NAMES_AT_ONCE + 10).map(|n| format!("{n}.json")).collect();
        for name in &want {
            fs::File::create(new.join(name)).unwrap();
        }
        for directory in ["alice", "bob+2", ".hidden", "-x"] {
            fs::create_dir(new.join(directory)).unwrap();
            fs::write(new.join(directory).join("x.json"), "").unwrap();
        }
        fs::create_dir_all(new.join("alice/deeper")).unwrap();
        fs::write(new.join("alice/deeper/y.json"), "").unwrap();
        fs::write(layout.drop_box(DropBox::Orders).join("o.json"), "").unwrap();
        want.extend(["alice/x.json", "bob+2/x.json", "o.json"].map(str::to_owned));
        let (mut rescan, mut found, mut parts) = (Rescan::begin(&layout), Vec::new(), 0);
        loop {
            let part = rescan.part().unwrap();
            found.extend(part.files.into_iter().map(|file| file.name.to_string()));
            parts += 1;
            if part.is_last {
                break;
            }
        }
        assert_eq!((found.first().map(String::as_str), parts), (Some("o.json"), 2));
        found.sort();
        want.sort();
        assert_eq!(found, want);
    }
}
