//! What a script's text must not be: it would run, and as something else than its writer meant. Floor 1.
//!
//! **Invariant:** pure. Nothing is repaired in silence: what runs is what was written and approved.

use crate::base::text::is_hidden;

/// Returns what is wrong with a script's text, and what would be right.
#[must_use]
pub(crate) fn flaw(text: &str) -> Option<(String, &'static str)> {
    if text.starts_with('\u{feff}') {
        let wanted = "the script without it: its first line is no #! line otherwise (save it as UTF-8 without BOM)";
        return Some(("a byte order mark (BOM) before the script".to_owned(), wanted));
    }
    if text.contains('\0') {
        return Some(("a script with NUL".to_owned(), "plain text in UTF-8; is it UTF-16, or no script?"));
    }
    if let Some(at) = text.find("\r\n") {
        let line = text[..at].matches('\n').count().saturating_add(1);
        let found = format!("a script with lines that end in CR LF, line {line} first");
        return Some((found, "lines that end in LF (dos2unix): a shell takes the CR for a part of the last word"));
    }
    let first = text.trim_start_matches(|c: char| c.is_whitespace() || is_hidden(c));
    if first.starts_with("#!") && !text.starts_with("#!") {
        let wanted = "#! as the first two characters: anywhere else it is a comment, and sh would run the script";
        return Some(("a #! line that is not the beginning of the script".to_owned(), wanted));
    }
    let line = text.strip_prefix("#!").and_then(|rest| rest.split('\n').next())?;
    line.chars().any(|c| c != '\t' && is_hidden(c)).then(|| {
        let wanted = "a #! line without them: they would be a part of the program's name";
        ("a #! line with hidden characters".to_owned(), wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_run_as_something_else_is_found() {
        let nul: String = "#!/bin/sh\n".chars().flat_map(|c| [c, '\0']).collect();
        for (text, want) in [
            ("\u{feff}#!/bin/bash\ntrue\n", "a byte order mark"),
            ("\u{feff}true\n", "a byte order mark"),
            (nul.as_str(), "a script with NUL"),
            ("#!/bin/bash\r\ntrue\r\n", "a script with lines that end in CR LF, line 1 first"),
            ("true\ntrue\r\n", "a script with lines that end in CR LF, line 2 first"),
            ("\n#!/bin/bash\ntrue\n", "a #! line that is not the beginning"),
            ("  #!/bin/bash\ntrue\n", "a #! line that is not the beginning"),
            ("\u{200b}#!/bin/bash\ntrue\n", "a #! line that is not the beginning"),
            ("#!/bin/bash\r", "a #! line with hidden characters"),
            ("#!/bin/bash\u{200b}\ntrue\n", "a #! line with hidden characters"),
        ] {
            let found = flaw(text).map(|(found, _)| found).unwrap_or_default();
            assert!(found.starts_with(want), "{text:?}: {found}");
        }
        for text in [
            "true",
            "",
            "#!/bin/sh\ntrue\n",
            "#!\t/bin/sh\t-x\ntrue\n",
            "#! /usr/bin/env -S bash -x\necho\n",
            "# a comment\n#!/bin/sh\n",
            "printf 'a\rb'\n",
            "echo \u{feff}\n",
            "\n\necho\n",
        ] {
            assert_eq!(flaw(text), None, "{text:?}");
        }
    }
}
