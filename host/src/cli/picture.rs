//! An image in the terminal.

use anstyle::{Ansi256Color, Color, RgbColor, Style};
use cipherlens::datasets::Picture;

/// Whether standard output shows colours.
pub fn colours() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
}

/// Widest picture that is shown as it is, and the width that wider ones are brought to.
const WIDEST: usize = 56;
const SHOWN: usize = 48;

/// The picture small enough for a terminal.
pub fn small(picture: &Picture) -> Picture {
    let [_, height, width] = picture.shape();
    if width <= WIDEST { picture.clone() } else { picture.resized(SHOWN, (height * SHOWN / width).max(1)) }
}

/// Lines of text that show the image, two pixel rows a line: half blocks in colours or 24 greys, or plain ASCII.
pub fn draw(picture: &Picture, colours: bool) -> Vec<String> {
    let [channels, _, width] = picture.shape();
    let line = width * channels;
    let dark = vec![0; line];
    let exact = std::env::var("COLORTERM").is_ok_and(|term| matches!(term.as_str(), "truecolor" | "24bit"));
    picture
        .pixels()
        .chunks(2 * line)
        .map(|rows| {
            let (upper, lower) = rows.split_at(line);
            let lower = if lower.is_empty() { &dark[..] } else { lower };
            let pairs = upper.chunks(channels).zip(lower.chunks(channels));
            if colours { blocks(pairs, exact) } else { pairs.map(|(u, l)| ascii(luma(u), luma(l))).collect() }
        })
        .collect()
}

fn luma(pixel: &[u8]) -> u8 {
    match *pixel {
        [r, g, b] => ((299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b)) / 1000) as u8,
        _ => pixel.first().copied().unwrap_or(0),
    }
}

fn ascii(upper: u8, lower: u8) -> char {
    const RAMP: [char; 10] = [' ', '.', ':', '-', '=', '+', '*', '#', '%', '@'];
    RAMP[(usize::from(upper) + usize::from(lower)) * (RAMP.len() - 1) / 510]
}

fn blocks<'p>(pairs: impl Iterator<Item = (&'p [u8], &'p [u8])>, exact: bool) -> String {
    let cube = |p: u8| (u16::from(p) * 5 + 127) / 255;
    let colour = |pixel: &[u8]| -> Color {
        match *pixel {
            [r, g, b] if exact => RgbColor(r, g, b).into(),
            [r, g, b] => Ansi256Color((16 + 36 * cube(r) + 6 * cube(g) + cube(b)) as u8).into(),
            _ => Ansi256Color(232 + (u16::from(luma(pixel)) * 23 / 255) as u8).into(),
        }
    };
    let cell = |(upper, lower)| {
        let style = Style::new().fg_color(Some(colour(upper))).bg_color(Some(colour(lower)));
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
        assert_eq!(draw(&Picture::grey(&[0, 255, 0, 255, 255, 0], 2), false), [" @", "= "]);
    }

    #[test]
    fn blocks_end_with_a_reset() {
        let lines = draw(&Picture::grey(&[0, 255], 1), true);
        assert!(lines[0].contains("38;5;232") && lines[0].contains("48;5;255") && lines[0].ends_with("\u{1b}[0m"));
    }
}
