//! How the dashboard looks and what it may: options of `top`, and of no verb at all. Floor 4.
//!
//! **Invariant:** they are refused where no dashboard is shown.

use clap::Args;

use crate::shells::cli::failure::{Failure, Kind};
use crate::shells::dashboard::Options;

/// How the dashboard looks and what it may: options of `top`, and of no verb at all, which is `top` on a terminal.
#[derive(Debug, Args)]
pub(super) struct Looks {
    /// Read-only: no key changes anything.
    #[arg(long)]
    pub(super) readonly: bool,
    /// Draw the dashboard's lines with - and |.
    #[arg(long)]
    ascii: bool,
    /// The dashboard's colours: dark, light, mono or safe (for colour-blind eyes) [dark; mono with `NO_COLOR`].
    #[arg(long)]
    theme: Option<String>,
    /// The dashboard's language: en or zh [the locale's].
    #[arg(long)]
    lang: Option<String>,
}

impl Looks {
    /// Puts together what stands before and behind the verb; what stands behind it counts.
    pub(super) fn over(self, before: Looks) -> Looks {
        Looks {
            readonly: self.readonly || before.readonly,
            ascii: self.ascii || before.ascii,
            theme: self.theme.or(before.theme),
            lang: self.lang.or(before.lang),
        }
    }

    pub(super) fn options(self) -> Options {
        let Looks { readonly, ascii, theme, lang } = self;
        Options { readonly, ascii, theme, lang, view: None, size: None }
    }

    /// Refuses options of the dashboard where none is shown.
    pub(super) fn expect_none(&self) -> Result<(), Failure> {
        let Looks { readonly, ascii, theme, lang } = self;
        let given = [("readonly", *readonly), ("ascii", *ascii), ("theme", theme.is_some()), ("lang", lang.is_some())];
        match given.iter().find(|(_, given)| *given) {
            Some((option, _)) => {
                let message = format!("--{option} is for the dashboard, and this verb shows none");
                Err(Failure::new(Kind::Usage, message)
                    .hint(format!("spoolgate --{option} without a verb, or spoolgate top --help")))
            }
            None => Ok(()),
        }
    }
}
