//! Every screen that has a name, by its row in the table.

use crate::shells::dashboard::completion::candidates;
use crate::shells::dashboard::keys::{Action, BINDINGS};
use crate::shells::dashboard::look::Theme;
use crate::shells::dashboard::screen::table::{NAMED_SCREENS, views};
use crate::shells::dashboard::tests::stage::{keys, stage};
use crate::shells::dashboard::tests::{SIZES, check_cells, frame};
use crate::shells::dashboard::view::lines_of;
use crate::shells::dashboard::words::Lang;

#[test]
fn every_screen_is_shown_by_its_name_fits_and_can_be_left() {
    for (named, lang) in NAMED_SCREENS.iter().flat_map(|named| Lang::ALL.map(|lang| (named, lang))) {
        for size in SIZES {
            let what = format!("{} {} {size:?}", named.word, lang.word());
            let mut model = stage(size, lang, Theme::Dark);
            assert!(candidates(model.context(), None, "").iter().any(|word| word == named.word), "{what}");
            keys(&mut model, &format!(":{} web-0001\n", named.word));
            let opened = (named.open)("web-0001").unwrap();
            assert!(model.ui.screen().is_like(opened.as_ref()), "{what}: {:?}", model.ui.screen());
            for pressed in ["", "j", "G", "k", "g", "l", "h", " ", "v", "V", "F", "F", "o", "/x\n", "\x1b"] {
                keys(&mut model, pressed);
                check_cells(&frame(&model), &what);
                model.wants();
            }
            if model.ui.depth() > 0 {
                keys(&mut model, "\x1b");
            }
            assert_eq!(model.ui.depth(), 0, "{what}: it cannot be left");
        }
    }
}

#[test]
fn every_view_has_a_digit_and_its_name_in_the_line_of_views() {
    let of_keys = |n: usize| BINDINGS.iter().any(|binding| binding.action == Action::View(n));
    assert!(!of_keys(views().count()), "a digit shows nothing");
    for (n, (named, title)) in views().enumerate() {
        assert!(of_keys(n), "{} has no digit", named.word);
        let mut model = stage((100, 30), Lang::En, Theme::Dark);
        keys(&mut model, &(n + 1).to_string());
        assert!(model.ui.screen().is_like((named.open)("").unwrap().as_ref()), "{}", named.word);
        assert_eq!(model.ui.view(), named.word);
        let shown = format!("{}:{}", n + 1, title(Lang::En.words()));
        assert!(lines_of(&frame(&model))[1].contains(&shown), "{shown}");
    }
}
