//! A grey image in the terminal.

use anstyle::{Ansi256Color, Style};

/// Whether standard output shows colours.
pub fn colours() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
}

/// Lines of text that show the image, two pixel rows a line: half blocks in 24 greys, or plain ASCII.
pub fn draw(pixels: &[u8], width: usize, colours: bool) -> Vec<String> {
    let width = width.max(1);
    pixels
        .chunks(2 * width)
        .map(|rows| {
            let (upper, lower) = rows.split_at(width.min(rows.len()));
            let pairs = upper.iter().enumerate().map(|(i, &u)| (u, lower.get(i).copied().unwrap_or(0)));
            if colours { blocks(pairs) } else { pairs.map(|(u, l)| ascii(u, l)).collect() }
        })
        .collect()
}

fn ascii(upper: u8, lower: u8) -> char {
    const RAMP: [char; 10] = [' ', '.', ':', '-', '=', '+', '*', '#', '%', '@'];
    RAMP[(usize::from(upper) + usize::from(lower)) * (RAMP.len() - 1) / 510]
}

fn blocks(pairs: impl Iterator<Item = (u8, u8)>) -> String {
    let grey = |p: u8| Ansi256Color(232 + (u16::from(p) * 23 / 255) as u8);
    let cell = |(upper, lower)| {
        let style = Style::new().fg_color(Some(grey(upper).into())).bg_color(Some(grey(lower).into()));
        format!("{style}\u{2580}{style:#}")
    };
    pairs.map(cell).collect()
}

/// Two columns: lines of `left`, each `width` cells wide, and `right` beside them, centred in height.
pub fn beside(left: &[String], width: usize, right: &[String]) -> String {
    let top = left.len().saturating_sub(right.len()) / 2;
    let rows = left.len().max(top + right.len());
    let blank = " ".repeat(width);
    (0..rows)
        .map(|i| {
            let l = left.get(i).unwrap_or(&blank);
            let r = i.checked_sub(top).and_then(|i| right.get(i)).map_or("", String::as_str);
            format!("  {l}    {r}").trim_end().to_string() + "\n"
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_has_a_line_for_two_rows_and_uses_the_whole_ramp() {
        assert_eq!(draw(&[0, 255, 0, 255, 255, 0], 2, false), [" @", "= "]);
    }

    #[test]
    fn blocks_end_with_a_reset() {
        let lines = draw(&[0, 255], 1, true);
        assert!(lines[0].contains("38;5;232") && lines[0].contains("48;5;255") && lines[0].ends_with("\u{1b}[0m"));
    }
}
