//! Names as SQL writes them: folded or quoted, with or without the schema in front.

use datafusion::sql::sqlparser::keywords::{ALL_KEYWORDS, ALL_KEYWORDS_INDEX, RESERVED_FOR_IDENTIFIER};

/// A name as it must be written to be read as that name.
pub fn quoted(name: &str) -> String {
    let mut letters = name.chars();
    let plain = letters.next().is_some_and(|first| first.is_ascii_lowercase() || first == '_')
        && letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
        && !is_reserved(name);
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn is_reserved(name: &str) -> bool {
    const MORE: [&str; 29] = [
        "all",
        "and",
        "any",
        "array",
        "as",
        "asc",
        "both",
        "case",
        "check",
        "create",
        "default",
        "desc",
        "do",
        "end",
        "foreign",
        "grant",
        "in",
        "leading",
        "not",
        "null",
        "only",
        "or",
        "primary",
        "references",
        "table",
        "then",
        "to",
        "trailing",
        "when",
    ];
    let upper = name.to_uppercase();
    let keyword = ALL_KEYWORDS.binary_search(&upper.as_str()).ok().map(|at| &ALL_KEYWORDS_INDEX[at]);
    MORE.contains(&name)
        || keyword.is_some_and(|word| RESERVED_FOR_IDENTIFIER.contains(word))
        || ["user", "order", "group", "select", "from", "where", "limit", "offset", "union", "column"].contains(&name)
}

/// The parts of `name` or `"Schema".name`, folded as SQL folds them; `None` if it is no name.
pub fn parts(text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(inner) => {
                let mut part = String::new();
                let mut inner = inner;
                loop {
                    let (before, after) = inner.split_once('"')?;
                    part.push_str(before);
                    match after.strip_prefix('"') {
                        Some(more) => {
                            part.push('"');
                            inner = more;
                        }
                        None => break (part, after.trim_start()),
                    }
                }
            }
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                let (part, after) = rest.split_at(end);
                (part.trim().to_lowercase(), after)
            }
        };
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        match after.strip_prefix('.') {
            Some(more) => rest = more.trim_start(),
            None => return after.is_empty().then_some(parts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_they_must_be() {
        assert_eq!(
            ["orders", "Orders", "a b", "2nd", "select", "user", "a\"b"].map(quoted),
            ["orders", "\"Orders\"", "\"a b\"", "\"2nd\"", "\"select\"", "\"user\"", "\"a\"\"b\""]
        );
    }

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(parts("Shop.\"My Orders\"").unwrap(), ["shop", "My Orders"]);
        assert_eq!(parts("\"a\"\"b\"").unwrap(), ["a\"b"]);
        assert_eq!(parts(" orders ").unwrap(), ["orders"]);
        for wrong in ["", "a.", ".b", "\"a", "\"a\"b"] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }
}
