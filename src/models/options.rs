//! Options of a model: declared once, checked at the door, trusted inside.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// One option of an algorithm, as the manual, the check and `ml.model_options` see it.
#[derive(Debug)]
pub struct Opt {
    pub name: &'static str,
    /// Names that users of other libraries know it by.
    pub aliases: &'static [&'static str],
    pub range: Range,
    /// What holds when it is not given; `None`: nothing, or found from the data (the doc says how).
    pub default: Option<&'static str>,
    pub doc: &'static str,
}

impl Opt {
    /// Whether that is its name, or one that other libraries know it by; case does not matter.
    pub fn is_called(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.name == name || self.aliases.contains(&name.as_str())
    }
}

/// What an option accepts.
#[derive(Debug, Clone, Copy)]
pub enum Range {
    Whole { min: i64, max: i64 },
    Number { min: f64, max: f64 },
    Bool,
    Choice(&'static [&'static str]),
    Text,
    Texts,
}

/// A value as it was given or as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    Bool(bool),
    Whole(i64),
    Number(f64),
    Text(String),
    Texts(Vec<String>),
    /// What a search is to try; a fitted model has none.
    Search(Search),
}

/// Values for an option that the data are to choose from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Search {
    Range { low: f64, high: f64 },
    Candidates(Vec<Value>),
}

/// Checked options: every declared one that has a value, under its own name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Options(BTreeMap<String, Value>);

impl Options {
    /// Checks what was given against what is declared and fills in the defaults.
    ///
    /// An unknown name is refused with the nearest known one; a value outside its range with both bounds.
    pub fn check<'a>(
        model_type: &str,
        declared: impl Iterator<Item = &'a Opt> + Clone,
        given: Vec<(String, Value)>,
    ) -> Result<Self> {
        let mut values = BTreeMap::new();
        for (name, value) in given {
            let Some(opt) = declared.clone().find(|opt| opt.is_called(&name)) else {
                let error = Error::invalid(format!("unknown option \"{name}\" of model type {model_type}"));
                return Err(error.suggest(&name, declared.clone().map(|opt| opt.name)));
            };
            if values.insert(opt.name.to_owned(), opt.range.check(opt.name, value)?).is_some() {
                return Err(Error::invalid(format!("option \"{}\" is given twice", opt.name)));
            }
        }
        for opt in declared {
            if let (Some(default), false) = (opt.default, values.contains_key(opt.name)) {
                let value = opt.range.check(opt.name, Value::Text(default.to_owned()))?;
                values.insert(opt.name.to_owned(), value);
            }
        }
        Ok(Self(values))
    }

    pub fn whole(&self, name: &str) -> Result<usize> {
        match self.0.get(name) {
            Some(Value::Whole(value)) => {
                usize::try_from(*value).map_err(|_| Error::internal(format!("option {name} = {value}")))
            }
            _ => Err(missing(name)),
        }
    }

    pub fn number(&self, name: &str) -> Result<f64> {
        match self.0.get(name) {
            Some(Value::Number(value)) => Ok(*value),
            Some(Value::Whole(value)) => Ok(*value as f64),
            _ => Err(missing(name)),
        }
    }

    /// A number that has no default: `None` where it is to be found from the data.
    pub fn given_number(&self, name: &str) -> Option<f64> {
        self.number(name).ok()
    }

    /// The same options and one that was found from the data.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    /// Whether the option is true; where it is not known or not given it is not.
    pub fn truth(&self, name: &str) -> bool {
        matches!(self.0.get(name), Some(Value::Bool(true)))
    }

    /// The same options but that one.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Value::Text(value)) => Some(value),
            _ => None,
        }
    }

    pub fn texts(&self, name: &str) -> Option<&[String]> {
        match self.0.get(name) {
            Some(Value::Texts(values)) => Some(values),
            _ => None,
        }
    }

    /// The options that a search is to find.
    pub fn searches(&self) -> impl Iterator<Item = (&str, &Search)> {
        self.iter().filter_map(|(name, value)| match value {
            Value::Search(search) => Some((name, search)),
            _ => None,
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

fn missing(name: &str) -> Error {
    Error::internal(format!("option \"{name}\" is not declared with a default of its type"))
}

impl Range {
    /// The value in its declared type, or the sentence that says what is accepted.
    pub(super) fn check(&self, name: &str, value: Value) -> Result<Value> {
        if let Value::Search(search) = value {
            return self.check_search(name, search).map(Value::Search);
        }
        let refuse = || Error::invalid(format!("option \"{name}\" must be {self}, not {value}"));
        let text = value.to_string();
        match self {
            Self::Whole { min, max } => match text.parse::<i64>() {
                Ok(whole) if (*min..=*max).contains(&whole) => Ok(Value::Whole(whole)),
                _ => Err(refuse()),
            },
            Self::Number { min, max } => match text.parse::<f64>() {
                Ok(number) if number >= *min && number <= *max => Ok(Value::Number(number)),
                _ => Err(refuse()),
            },
            Self::Bool => match text.to_lowercase().as_str() {
                "true" | "on" | "yes" | "1" => Ok(Value::Bool(true)),
                "false" | "off" | "no" | "0" => Ok(Value::Bool(false)),
                _ => Err(refuse()),
            },
            Self::Choice(choices) => match choices.iter().find(|choice| choice.eq_ignore_ascii_case(&text)) {
                Some(choice) => Ok(Value::Text((*choice).to_owned())),
                None => Err(refuse().suggest(&text, choices.iter().copied())),
            },
            Self::Text => match value {
                Value::Texts(many) if many.len() == 1 => Ok(Value::Text(many[0].clone())),
                Value::Texts(_) => Err(refuse()),
                _ => Ok(Value::Text(text)),
            },
            Self::Texts => match value {
                Value::Texts(many) => Ok(Value::Texts(many)),
                _ => Ok(Value::Texts(text.split(',').map(|one| one.trim().to_owned()).collect())),
            },
        }
    }
}

impl Range {
    fn check_search(&self, name: &str, search: Search) -> Result<Search> {
        match search {
            Search::Range { low, high } => {
                let bound = |bound: f64| match self {
                    Self::Whole { .. } if bound.fract() == 0.0 => self.check(name, Value::Whole(bound as i64)),
                    Self::Whole { .. } | Self::Number { .. } => self.check(name, Value::Number(bound)),
                    _ => Err(Error::invalid(format!("option \"{name}\" is {self}: it has no range to search"))
                        .hint(format!("{name} = hparam_candidates(ARRAY['…', '…'])"))),
                };
                bound(low)?;
                bound(high)?;
                if low >= high {
                    return Err(Error::invalid(format!("option \"{name}\": hparam_range({low}, {high}) is empty"))
                        .hint("the lower bound comes first"));
                }
                Ok(Search::Range { low, high })
            }
            Search::Candidates(_) if matches!(self, Self::Texts) => {
                Err(Error::unsupported(format!("option \"{name}\" is {self}, which cannot be searched")))
            }
            Search::Candidates(candidates) => {
                let mut checked: Vec<Value> = Vec::with_capacity(candidates.len());
                for candidate in candidates {
                    let candidate = self.check(name, candidate)?;
                    if !checked.contains(&candidate) {
                        checked.push(candidate);
                    }
                }
                if checked.is_empty() {
                    return Err(Error::invalid(format!("option \"{name}\": hparam_candidates has no candidates")));
                }
                Ok(Search::Candidates(checked))
            }
        }
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole { min, max } if *max == i64::MAX => write!(f, "a whole number from {min}"),
            Self::Whole { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Number { min, max } if max.is_infinite() => write!(f, "a number from {min}"),
            Self::Number { min, max } => write!(f, "a number from {min} to {max}"),
            Self::Bool => f.write_str("true or false"),
            Self::Choice(choices) => write!(f, "one of {}", choices.join(", ")),
            Self::Text => f.write_str("a text"),
            Self::Texts => f.write_str("a text or an array of texts"),
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Whole(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
            Self::Texts(values) => write!(f, "[{}]", values.join(", ")),
            Self::Search(search) => search.fmt(f),
        }
    }
}

/// As it is written in a statement.
impl std::fmt::Display for Search {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Range { low, high } => write!(f, "hparam_range({low}, {high})"),
            Self::Candidates(candidates) => {
                let shown = candidates.iter().map(|candidate| match candidate {
                    Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
                    other => other.to_string(),
                });
                write!(f, "hparam_candidates(ARRAY[{}])", shown.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

impl Error {
    /// A query that lacks the column an option names.
    pub(super) fn label_missing(name: &str, given: &[&str]) -> Self {
        Self::new(Kind::UnknownColumn, format!("the query gives no column \"{name}\" to learn"))
            .hint(format!("name the label with OPTIONS (input_label_cols = '…'); the query gives {}", given.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECLARED: [Opt; 2] = [
        Opt {
            name: "num_factors",
            aliases: &["factors"],
            range: Range::Whole { min: 1, max: 1024 },
            default: Some("64"),
            doc: "",
        },
        Opt {
            name: "l2_reg",
            aliases: &[],
            range: Range::Number { min: 0.0, max: f64::INFINITY },
            default: None,
            doc: "",
        },
    ];

    fn check(given: &[(&str, Value)]) -> Result<Options> {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Options::check("test", DECLARED.iter(), given)
    }

    #[test]
    fn aliases_case_and_defaults() {
        assert_eq!(check(&[]).unwrap().whole("num_factors").unwrap(), 64);
        let options = check(&[("FACTORS", Value::Whole(8)), ("l2_reg", Value::Whole(2))]).unwrap();
        assert_eq!((options.whole("num_factors").unwrap(), options.number("l2_reg").unwrap()), (8, 2.0));
    }

    #[test]
    fn refusals_say_what_is_accepted() {
        let error = check(&[("num_factor", Value::Whole(8))]).unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("did you mean \"num_factors\"?"));
        let error = check(&[("factors", Value::Whole(0))]).unwrap_err();
        assert_eq!(error.message, "option \"num_factors\" must be a whole number from 1 to 1024, not 0");
        assert!(check(&[("factors", Value::Whole(1)), ("num_factors", Value::Whole(1))]).is_err());
    }

    #[test]
    fn what_is_searched_lies_within_what_is_accepted() {
        let range = |low, high| Value::Search(Search::Range { low, high });
        let candidates =
            |values: &[i64]| Value::Search(Search::Candidates(values.iter().copied().map(Value::Whole).collect()));
        let options = check(&[("factors", candidates(&[8, 16, 8])), ("l2_reg", range(0.1, 100.0))]).unwrap();
        let found: Vec<String> = options.searches().map(|(name, search)| format!("{name} = {search}")).collect();
        assert_eq!(found, ["l2_reg = hparam_range(0.1, 100)", "num_factors = hparam_candidates(ARRAY[8, 16])"]);
        assert!(check(&[("factors", candidates(&[8, 0]))]).is_err());
        assert!(check(&[("factors", candidates(&[]))]).is_err());
        assert!(check(&[("factors", range(1.0, 1025.0))]).is_err());
        assert!(check(&[("factors", range(1.5, 10.0))]).is_err());
        assert!(check(&[("l2_reg", range(2.0, 2.0))]).is_err());
    }
}
