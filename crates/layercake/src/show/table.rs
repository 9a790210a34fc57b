//! Tables that fit: on a terminal, columns are dropped, the least important first, or shortened with
//! `…`, and no word is ever broken. In a pipe nothing is cut.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The blanks between two columns.
const GAP: usize = 2;

/// The width that free text keeps before a column is dropped for it.
const TEXT_FLOOR: usize = 12;

/// The width that the first column keeps before others are dropped for it.
const KEY_FLOOR: usize = 24;

/// One column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    name: &'static str,
    /// How long it is kept when there is no room: the lowest goes first.
    keep: u8,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It says what a line is about: always shown.
    Key,
    /// Whole or not at all.
    Word,
    /// Shortened where there is no room.
    Text,
}

impl Column {
    /// The column that says what a line is about, which is the first one.
    pub(crate) const fn key(name: &'static str) -> Self {
        Self { name, keep: u8::MAX, kind: Kind::Key }
    }

    /// A column of words; of those with the lowest number the last one is dropped first.
    pub(crate) const fn word(name: &'static str, keep: u8) -> Self {
        Self { name, keep, kind: Kind::Word }
    }

    /// A column of text that may be shortened.
    pub(crate) const fn text(name: &'static str, keep: u8) -> Self {
        Self { name, keep, kind: Kind::Text }
    }
}

/// The columns that are shown, and how wide each one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    widths: Vec<Option<usize>>,
    /// Whether a cell that is wider than its column is shortened.
    is_cut: bool,
}

/// A header and its lines. A cell is one line, whatever was in it.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> Self {
        let clean = |row: Vec<String>| row.iter().map(|cell| one_line(cell)).collect();
        Self { columns: columns.to_vec(), rows: rows.into_iter().map(clean).collect() }
    }

    /// The cells of the lines.
    pub(crate) fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// The header and all lines, within so many characters.
    pub(crate) fn lines(&self, width: Option<usize>) -> Vec<String> {
        let layout = self.layout(width);
        let lines = self.rows.iter().map(|row| layout.line(row));
        std::iter::once(self.header(&layout)).chain(lines).collect()
    }

    /// The header in a layout.
    pub(crate) fn header(&self, layout: &Layout) -> String {
        layout.line(&self.columns.iter().map(|column| column.name.to_owned()).collect::<Vec<_>>())
    }

    /// The layout in which everything fits, or as much as possible.
    pub(crate) fn layout(&self, width: Option<usize>) -> Layout {
        let natural: Vec<usize> = (0..self.columns.len()).map(|at| self.natural(at)).collect();
        let Some(width) = width else {
            return Layout { widths: natural.into_iter().map(Some).collect(), is_cut: false };
        };
        let floor = |at: usize| match self.columns[at].kind {
            Kind::Key => natural[at].min(KEY_FLOOR),
            Kind::Word => natural[at],
            Kind::Text => natural[at].min(TEXT_FLOOR.max(self.columns[at].name.width())),
        };
        let mut kept: Vec<usize> = (0..self.columns.len()).collect();
        let gaps = |kept: &[usize]| GAP * kept.len().saturating_sub(1);
        let whole = |kept: &[usize]| kept.iter().map(|at| natural[*at]).sum::<usize>() + gaps(kept);
        let needed = |kept: &[usize]| kept.iter().map(|at| floor(*at)).sum::<usize>() + gaps(kept);
        while let Some((keep, least)) = self.least(&kept) {
            // What says nothing goes before anything is shortened.
            if needed(&kept) <= width && (keep > 0 || whole(&kept) <= width) {
                break;
            }
            kept.retain(|at| *at != least);
        }
        let mut widths = vec![None; self.columns.len()];
        for at in &kept {
            widths[*at] = Some(floor(*at).min(width));
        }
        // What is left goes to those that were shortened, a character each in turn.
        let mut spare = width.saturating_sub(needed(&kept));
        while spare > 0 {
            let before = spare;
            for at in &kept {
                if let Some(shown) = widths[*at].as_mut().filter(|shown| **shown < natural[*at])
                    && spare > 0
                {
                    *shown += 1;
                    spare -= 1;
                }
            }
            if spare == before {
                break;
            }
        }
        Layout { widths, is_cut: true }
    }

    /// The width of a column in which nothing is shortened.
    fn natural(&self, at: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(at));
        let cells = cells.map(|cell| cell.width()).max().unwrap_or(0);
        cells.max(self.columns[at].name.width())
    }

    /// The column that is dropped next, and how long it is kept.
    fn least(&self, kept: &[usize]) -> Option<(u8, usize)> {
        let droppable = kept.iter().filter(|at| self.columns[**at].kind != Kind::Key);
        let ranked = droppable.map(|at| (self.keep(*at), *at));
        ranked.min_by_key(|(keep, at)| (*keep, usize::MAX - at))
    }

    /// How long a column is kept: one that says nothing of any line goes first.
    fn keep(&self, at: usize) -> u8 {
        let mut cells = self.rows.iter().filter_map(|row| row.get(at));
        let is_empty = cells.all(|cell| matches!(cell.as_str(), "" | "-"));
        if is_empty { 0 } else { self.columns[at].keep }
    }
}

impl Layout {
    /// One line. Trailing blanks would make a golden file of every table invisible in review.
    pub(crate) fn line(&self, cells: &[String]) -> String {
        let mut line = String::new();
        let mut due = 0;
        for (width, cell) in self.widths.iter().zip(cells) {
            let Some(width) = width else { continue };
            let cell = if self.is_cut { shortened(cell, *width) } else { cell.clone() };
            line.extend(std::iter::repeat_n(' ', due));
            due = GAP + width.saturating_sub(cell.width());
            line.push_str(&cell);
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Text within so many characters, with `…` for what is left out.
pub(crate) fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut room = width.saturating_sub(1);
    for letter in text.chars() {
        let takes = letter.width().unwrap_or(0);
        if takes > room {
            break;
        }
        room -= takes;
        short.push(letter);
    }
    short.truncate(short.trim_end_matches([' ', ',', ';']).len());
    if width > 0 {
        short.push('…');
    }
    short
}

/// Text on one line, without what would move the cursor of a terminal.
fn one_line(text: &str) -> String {
    let blank = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.trim_end().chars().map(blank).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const COLUMNS: [Column; 6] = [
        Column::key("NODE"),
        Column::word("PHYS", 9),
        Column::word("BOOT", 1),
        Column::text("IMAGES", 5),
        Column::word("BUSY", 8),
        Column::text("MARKS", 6),
    ];

    fn table() -> Table {
        let row = |cells: [&str; 6]| cells.map(str::to_owned).to_vec();
        let rows = [
            row([
                "n001",
                "POWER_OFF",
                "INIT",
                "compute, gpu, login",
                "-",
                "held by anna (new DIMM)",
            ]),
            row(["n130", "POWER_ON", "WAIT", "", "-", ""]),
        ];
        Table::new(&COLUMNS, rows)
    }

    #[test]
    fn nothing_is_cut_where_there_is_room_or_no_terminal() {
        let whole = [
            "NODE  PHYS       BOOT  IMAGES               BUSY  MARKS",
            "n001  POWER_OFF  INIT  compute, gpu, login  -     held by anna (new DIMM)",
            "n130  POWER_ON   WAIT                       -",
        ];
        assert_eq!(table().lines(None), whole);
        assert_eq!(table().lines(Some(73)), whole);
    }

    #[test]
    fn text_is_shortened_and_columns_go_the_least_important_first() {
        let at = |width| table().lines(Some(width));
        assert_eq!(at(60)[1], "n001  POWER_OFF  INIT  compute, gpu, log…  held by anna (ne…");
        let narrow = [
            "NODE  PHYS       BOOT  IMAGES        MARKS",
            "n001  POWER_OFF  INIT  compute, gp…  held by ann…",
            "n130  POWER_ON   WAIT",
        ];
        assert_eq!(at(49), narrow);
        assert_eq!(at(35)[1], "n001  POWER_OFF  held by anna (new…");
        assert_eq!(at(15), ["NODE  PHYS", "n001  POWER_OFF", "n130  POWER_ON"]);
        assert_eq!(at(6), ["NODE", "n001", "n130"]);
        assert_eq!(at(3), ["NO…", "n0…", "n1…"]);
    }

    #[test]
    fn a_cell_is_one_line_and_wide_letters_take_two_places() {
        let columns = [Column::key("A"), Column::text("B", 1)];
        let rows = [vec!["x".to_owned(), "one\ntwo\x1b[2J\t三四五六七八九十\n".to_owned()]];
        let table = Table::new(&columns, rows);
        assert_eq!(table.lines(None)[1], "x  one two [2J 三四五六七八九十");
        assert_eq!(table.lines(Some(19))[1], "x  one two [2J 三…");
    }

    proptest::proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal_and_no_word_is_broken_without_a_sign(
            cells in proptest::collection::vec(
                proptest::collection::vec("[a-z三 ]{0,30}", 6), 0..5),
            width in 1..120_usize
        ) {
            let table = Table::new(&COLUMNS, cells.clone());
            for (line, cells) in table.lines(Some(width)).iter().zip(
                std::iter::once(COLUMNS.map(|c| c.name.to_owned()).to_vec()).chain(cells))
            {
                proptest::prop_assert!(line.width() <= width, "{line:?} in {width}");
                for part in line.split("  ").map(str::trim).filter(|part| !part.is_empty()) {
                    let is_whole = part.ends_with('…')
                        || cells.iter().any(|cell| one_line(cell).contains(part));
                    proptest::prop_assert!(is_whole, "{part:?} of {line:?}");
                }
            }
        }
    }
}
