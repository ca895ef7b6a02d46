//! `to_char` of numbers: the template patterns of PostgreSQL, table 9.33.

use crate::error::{Error, Result};

/// A double with the digits that it has, and no exponent.
pub fn digits(number: f64) -> String {
    if !number.is_finite() {
        return number.to_string();
    }
    // As many decimals as its fifteen digits leave.
    let whole = number.abs().log10().floor().max(0.0);
    let decimals = (14.0 - whole).clamp(0.0, 15.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // It is between 0 and 15.
    let decimals = decimals as usize;
    format!("{number:.decimals$}")
}

/// A pattern taken apart.
#[derive(Default)]
struct Pattern {
    pieces: Vec<Piece>,
    tight: bool,
    whole_digits: usize,
    decimals: usize,
    /// The place of the first 0 among the digits before the point.
    first_zero: Option<usize>,
    /// How many decimals the last 0 after the point asks for.
    kept_decimals: usize,
    signed: bool,
    bracketed: bool,
}

enum Piece {
    Digit,
    Point,
    Group,
    /// `S`: the sign, plus too.
    Sign,
    /// `MI`: a minus or a blank.
    Minus,
    /// `PL`: a plus or a blank.
    Plus,
    Text(String),
}

/// A number, given as its decimal text, as the pattern wants it.
pub fn written(number: &str, pattern: &str) -> Result<String> {
    let pattern = read(pattern)?;
    let (negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number),
    };
    let Some((whole, decimals)) = rounded(number, pattern.decimals) else {
        return Ok("#".repeat(pattern.whole_digits + 1));
    };
    let negative = negative && (whole.bytes().chain(decimals.bytes()).any(|digit| digit != b'0'));
    Ok(pattern.fill(negative, &whole, &decimals))
}

fn read(text: &str) -> Result<Pattern> {
    let mut pattern = Pattern::default();
    let mut rest = text;
    let mut after_point = false;
    while let Some(first) = rest.chars().next() {
        let upper = rest.get(..2).map(str::to_uppercase).unwrap_or_default();
        let taken = match upper.as_str() {
            "FM" => {
                pattern.tight = true;
                2
            }
            "MI" => {
                pattern.pieces.push(Piece::Minus);
                pattern.signed = true;
                2
            }
            "PL" => {
                pattern.pieces.push(Piece::Plus);
                2
            }
            "SG" => {
                pattern.pieces.push(Piece::Sign);
                pattern.signed = true;
                2
            }
            "PR" => {
                pattern.bracketed = true;
                2
            }
            "EE" | "RN" | "TH" => {
                return Err(Error::unsupported(format!("the pattern \"{}\" of numbers is not supported", upper))
                    .hint("to_char writes numbers with 9 0 . , D G S MI PL PR FM and text in double quotes"));
            }
            _ => 0,
        };
        if taken > 0 {
            rest = &rest[taken..];
            continue;
        }
        match first {
            '9' | '0' => {
                if after_point {
                    pattern.decimals += 1;
                    if first == '0' {
                        pattern.kept_decimals = pattern.decimals;
                    }
                } else {
                    if first == '0' && pattern.first_zero.is_none() {
                        pattern.first_zero = Some(pattern.whole_digits);
                    }
                    pattern.whole_digits += 1;
                }
                pattern.pieces.push(Piece::Digit);
            }
            '.' | 'D' | 'd' if !after_point => {
                after_point = true;
                pattern.pieces.push(Piece::Point);
            }
            ',' | 'G' | 'g' => pattern.pieces.push(Piece::Group),
            'S' | 's' => {
                pattern.pieces.push(Piece::Sign);
                pattern.signed = true;
            }
            // The currency of the locale C is none.
            'L' | 'l' => pattern.pieces.push(Piece::Text(" ".to_owned())),
            '"' => {
                let quoted = &rest[1..];
                let end = quoted.find('"').unwrap_or(quoted.len());
                pattern.pieces.push(Piece::Text(quoted[..end].to_owned()));
                rest = quoted.get(end + 1..).unwrap_or_default();
                continue;
            }
            other => pattern.pieces.push(Piece::Text(other.to_string())),
        }
        rest = &rest[first.len_utf8()..];
    }
    Ok(pattern)
}

/// Digits before the point without leading zeros, and so many after it, rounded half away from zero. `None`: it is no
/// finite number.
fn rounded(number: &str, decimals: usize) -> Option<(String, String)> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if !whole.bytes().chain(fraction.bytes()).all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let mut digits: Vec<u8> =
        whole.bytes().chain(fraction.bytes().chain(std::iter::repeat(b'0')).take(decimals)).collect();
    if fraction.as_bytes().get(decimals).is_some_and(|next| *next >= b'5') {
        let mut at = digits.len();
        loop {
            if at == 0 {
                digits.insert(0, b'1');
                break;
            }
            at -= 1;
            if digits[at] == b'9' {
                digits[at] = b'0';
            } else {
                digits[at] += 1;
                break;
            }
        }
    }
    let text = String::from_utf8(digits).ok()?;
    let (whole, fraction) = text.split_at(text.len() - decimals);
    Some((whole.trim_start_matches('0').to_owned(), fraction.to_owned()))
}

impl Pattern {
    fn fill(&self, negative: bool, whole: &str, decimals: &str) -> String {
        let too_large = whole.len() > self.whole_digits;
        // Zero is shown as one digit where no decimals are asked for.
        let whole = if whole.is_empty() && self.decimals == 0 { "0" } else { whole };
        let blanks = self.whole_digits.saturating_sub(whole.len());
        let from = self.first_zero.map_or(blanks, |zero| zero.min(blanks));
        let kept = match self.tight {
            true => decimals.trim_end_matches('0').len().max(self.kept_decimals),
            false => decimals.len(),
        };
        let mut text = String::new();
        let sign = if self.bracketed {
            if negative { Some('<') } else { (!self.tight).then_some(' ') }
        } else if self.signed {
            None
        } else if negative {
            Some('-')
        } else {
            (!self.tight).then_some(' ')
        };
        let mut sign = sign;
        // A sign in front of the digits stands right before the first of them.
        let mut pending: Option<char> = None;
        let (mut at, mut decimal, mut after_point) = (0, 0, false);
        for piece in &self.pieces {
            match piece {
                Piece::Digit if after_point => {
                    if decimal < kept {
                        text.push(if too_large { '#' } else { char::from(decimals.as_bytes()[decimal]) });
                    }
                    decimal += 1;
                }
                Piece::Digit => {
                    if at >= from || too_large {
                        text.extend(sign.take());
                        text.extend(pending.take());
                        text.push(match at.checked_sub(blanks) {
                            _ if too_large => '#',
                            Some(digit) => char::from(whole.as_bytes().get(digit).copied().unwrap_or(b'0')),
                            None => '0',
                        });
                    } else if !self.tight {
                        text.push(' ');
                    }
                    at += 1;
                }
                Piece::Group if after_point => text.push(','),
                Piece::Group => {
                    if at > from || too_large {
                        text.push(',');
                    } else if !self.tight {
                        text.push(' ');
                    }
                }
                Piece::Point => {
                    text.extend(sign.take());
                    text.extend(pending.take());
                    text.push('.');
                    after_point = true;
                }
                Piece::Sign => {
                    let sign = if negative { '-' } else { '+' };
                    if at == 0 && !after_point { pending = Some(sign) } else { text.push(sign) }
                }
                Piece::Minus => match negative {
                    true => text.push('-'),
                    false if !self.tight => text.push(' '),
                    false => {}
                },
                Piece::Plus => match negative {
                    false => text.push('+'),
                    true if !self.tight => text.push(' '),
                    true => {}
                },
                Piece::Text(found) => text.push_str(found),
            }
        }
        if self.bracketed {
            match negative {
                true => text.push('>'),
                false if !self.tight => text.push(' '),
                false => {}
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_like_postgres_does() {
        // What PostgreSQL 15 answers.
        for (number, pattern, expected) in [
            ("1234567.891", "999,999,999.99", "   1,234,567.89"),
            ("1234567.891", "FM999,999,999.99", "1,234,567.89"),
            ("-12", "9999", "  -12"),
            ("12", "0000", " 0012"),
            ("0.5", "9.99", "  .50"),
            ("0.5", "0.99", " 0.50"),
            ("0.5", "FM9.99", ".5"),
            ("12", "FM99.99", "12."),
            ("12", "FM990.00", "12.00"),
            ("0", "999", "   0"),
            ("12345", "999", " ###"),
            ("12", "S9999", "  +12"),
            ("-12", "9999MI", "  12-"),
            ("-12", "9999PR", "  <12>"),
            ("0.995", "FM0.00", "1.00"),
            ("99.5", "99", " ##"),
            ("12.3", "FM$999.00", "$12.30"),
        ] {
            assert_eq!(written(number, pattern).unwrap(), expected, "{number} {pattern}");
        }
        assert!(written("1", "9.99EEEE").is_err());
        assert_eq!(digits(0.1 + 0.2), "0.30000000000000");
    }
}
