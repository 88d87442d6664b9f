//! The form in which a git hook drops what it saw: which ref of which repository points where now. Which task that is,
//! if any, is for the rules to say.
//!
//! **Invariant:** objects are named by hexadecimal digits, and a ref by a name that git could give one.

use crate::base::limits;
use crate::domain::hook::Push;
use crate::domain::wire::fields::Fields;

/// The field that tells this form from every other one.
pub(super) const MARK: &str = "git_push";

/// Reads the fields of a push; the problems stay in `fields`.
pub(super) fn read(fields: &mut Fields<'_>) -> Option<Push> {
    fields.take(MARK);
    let mut text = |name: &'static str, wanted: &str| {
        let text = fields.text(name, limits::STRING_BYTES_MAX);
        if text.is_none() {
            fields.missing(name, wanted);
        }
        text
    };
    let repository = text("repository", "the repository as its server names it");
    let reference = text("ref", "the whole name of the ref");
    let hook = text("hook", "update, post-receive or http");
    let new = fields.text("new", limits::TITLE_BYTES_MAX);
    // CODO's hook does not say which object.
    if new.is_none() && hook.as_deref() != Some("http") {
        fields.missing("new", "the object that the ref points at now");
    }
    let old = fields.text("old", limits::TITLE_BYTES_MAX).unwrap_or_default();
    let commit = fields.text("commit", limits::TITLE_BYTES_MAX);
    let pusher = fields.text("pusher", limits::TITLE_BYTES_MAX);
    let urls =
        fields.text("git_ssh_url", limits::TITLE_BYTES_MAX).zip(fields.text("git_http_url", limits::TITLE_BYTES_MAX));
    let comes_to = fields.text("comes_to", limits::TITLE_BYTES_MAX);
    // For whoever reads the file; nothing is decided on them.
    for name in ["annotated", "protocol", "push_options", "received_at"] {
        fields.take(name);
    }
    let hex = |name: &str| name.bytes().all(|byte| byte.is_ascii_hexdigit());
    for (name, object) in [("old", Some(&old)), ("new", new.as_ref()), ("commit", commit.as_ref())] {
        if let Some(object) = object.filter(|object| !hex(object)) {
            fields.wrong(name, object, "the hexadecimal name of an object");
        }
    }
    if let Some(reference) = reference.as_ref().filter(|name| !is_ref(name)) {
        fields.wrong("ref", reference, "the name of a ref, such as refs/tags/v1");
    }
    Some(Push {
        repository: repository?,
        reference: reference?,
        old,
        new: new.unwrap_or_default(),
        commit,
        pusher,
        hook: hook?,
        urls,
        comes_to,
    })
}

/// Whether git could have given a ref this name (git-check-ref-format(1)).
fn is_ref(name: &str) -> bool {
    name.starts_with("refs/")
        && !name.chars().any(|c| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\'))
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && name
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.') && part.strip_suffix(".lock").is_none())
}
