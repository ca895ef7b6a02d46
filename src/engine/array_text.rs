//! Arrays as Postgres writes them, `{1,NULL,"a b"}`, taken apart.

/// The items of a one-dimensional array, `None` for NULL; `None` if this is not one.
pub fn items(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut items = Vec::new();
    if inner.trim().is_empty() {
        return Some(items);
    }
    let mut letters = inner.chars().peekable();
    loop {
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        let quoted = letters.next_if_eq(&'"').is_some();
        let mut item = String::new();
        loop {
            match letters.next() {
                Some('\\') => item.push(letters.next()?),
                Some('"') if quoted => break,
                None if quoted => return None,
                Some('{' | '}' | '"') if !quoted => return None,
                Some(letter) => {
                    item.push(letter);
                    if !quoted && letters.peek().is_none_or(|next| *next == ',') {
                        break;
                    }
                }
                None => return None,
            }
        }
        if quoted {
            items.push(Some(item));
        } else {
            let item = item.trim();
            if item.is_empty() || item.starts_with(',') {
                return None;
            }
            items.push((!item.eq_ignore_ascii_case("NULL")).then(|| item.to_owned()));
        }
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        match letters.next() {
            None => return Some(items),
            Some(',') if letters.peek().is_some() => {}
            Some(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Vec<String>> {
        let items = items(text)?;
        Some(items.into_iter().map(|item| item.unwrap_or_else(|| "NULL!".to_owned())).collect())
    }

    #[test]
    fn arrays_are_read() {
        assert_eq!(read("{1,2, 3}").unwrap(), ["1", "2", "3"]);
        assert_eq!(read("{}").unwrap(), [] as [&str; 0]);
        assert_eq!(read(r#"{a b,"c,d","e\"f",NULL,"NULL"}"#).unwrap(), ["a b", "c,d", "e\"f", "NULL!", "NULL"]);
        assert_eq!(read(r#"{"",x}"#).unwrap(), ["", "x"]);
        for wrong in ["1,2", "{1,2", "{1,,2}", "{1,}", "{{1},{2}}", "{\"a}"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
