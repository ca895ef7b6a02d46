//! Keys of customers and products: whatever the data has, numbered from zero.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray, UInt32Array, new_empty_array};
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options, concat, take};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use rayon::prelude::*;
use std::hash::{BuildHasher, Hasher};

use crate::error::{Error, Kind, Result};
use crate::frame::{comparable, converted, sql_name};
use crate::kernels::hash::Fnv;

/// The number of no key: of NULL, or of one that is not known.
pub const NO_KEY: u32 = u32::MAX;

/// The distinct keys of one column and their numbers `0..len`.
#[derive(Debug, Clone)]
pub struct Keys {
    values: ArrayRef,
    numbers: Index,
}

/// Finds the number of a key by the values themselves: they are not kept a second time.
#[derive(Debug, Clone)]
enum Index {
    Whole { table: HashTable<u32>, keys: Vec<i64>, hasher: RandomState },
    Text { table: HashTable<u32>, keys: StringArray, hasher: RandomState },
}

impl Keys {
    /// The distinct non-NULL keys of a column, numbered in order of first appearance, and each row's number.
    pub fn of(column: &ArrayRef) -> Result<(Self, Vec<Option<u32>>)> {
        let mut numbering = Numbering::default();
        let mut codes = Vec::with_capacity(column.len());
        numbering.number(column, &mut codes)?;
        let known = |code: u32| (code != NO_KEY).then_some(code);
        Ok((numbering.finish(column.data_type())?, codes.into_iter().map(known).collect()))
    }

    /// Keys as they were stored: distinct and without NULL.
    pub fn stored(values: &ArrayRef) -> Result<Self> {
        let values = normal(values)?;
        let numbers = Index::of(&values)?;
        if values.null_count() == 0 && numbers.len() == values.len() {
            Ok(Self { values, numbers })
        } else {
            Err(Error::corrupt("the model's keys are not distinct"))
        }
    }

    /// The keys with these numbers, which become `0, 1, …` in that order. No number may be given twice.
    pub fn chosen(&self, numbers: &[u32]) -> Result<Self> {
        let values = self.take(numbers)?;
        let numbers = Index::of(&values)?;
        Ok(Self { values, numbers })
    }

    /// All numbers, in the order of their keys: an order that does not depend on which key came first.
    pub fn sorted(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..self.len() as u32).collect();
        match &self.numbers {
            Index::Whole { keys, .. } => numbers.par_sort_unstable_by_key(|number| keys[*number as usize]),
            Index::Text { keys, .. } => {
                numbers.par_sort_unstable_by(|a, b| keys.value(*a as usize).cmp(keys.value(*b as usize)));
            }
        }
        numbers
    }

    /// A 64-bit hash of each key, the same on every machine and in every release.
    pub fn hashes(&self) -> Vec<u64> {
        match &self.numbers {
            Index::Whole { keys, .. } => keys.iter().map(|key| stable_hash(&key.to_le_bytes())).collect(),
            Index::Text { keys, .. } => {
                keys.iter().map(|key| stable_hash(key.unwrap_or_default().as_bytes())).collect()
            }
        }
    }

    /// Each row's number; `None` for NULL and for an unknown key. A column of another kind of type is refused: that
    /// no text is among the numbers would be an answer, but not to what was asked.
    pub fn codes(&self, column: &ArrayRef) -> Result<Vec<Option<u32>>> {
        let (wanted, given) = (self.values.data_type(), column.data_type());
        if !comparable(wanted, given) {
            let (wanted, given) = (sql_name(wanted), sql_name(given));
            return Err(Error::new(Kind::WrongType, format!("the model knows keys of type {wanted}, not {given}"))
                .hint(format!("cast the key to {wanted}, its type in training")));
        }
        // Looking up never adds, so the index can be shared by threads.
        self.numbers.lookup(&converted(column, wanted)?)
    }

    /// The keys with these numbers, in that order.
    pub fn take(&self, codes: &[u32]) -> Result<ArrayRef> {
        Ok(take(&self.values, &UInt32Array::from(codes.to_vec()), None)?)
    }

    pub fn values(&self) -> &ArrayRef {
        &self.values
    }

    pub fn data_type(&self) -> &DataType {
        self.values.data_type()
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

impl Index {
    fn of(values: &ArrayRef) -> Result<Self> {
        let hasher = RandomState::default();
        let mut table = HashTable::with_capacity(values.len());
        if values.data_type() == &DataType::Int64 {
            let keys: Vec<i64> = values.as_primitive::<Int64Type>().values().to_vec();
            for (number, key) in keys.iter().enumerate() {
                let same = |other: &u32| keys[*other as usize] == *key;
                let hash = |other: &u32| hasher.hash_one(keys[*other as usize]);
                table.entry(hasher.hash_one(key), same, hash).or_insert(number as u32);
            }
            return Ok(Self::Whole { table, keys, hasher });
        }
        let keys = texts_of(values)?;
        for number in 0..keys.len() {
            let key = keys.value(number);
            let same = |other: &u32| keys.value(*other as usize) == key;
            let hash = |other: &u32| hasher.hash_one(keys.value(*other as usize));
            table.entry(hasher.hash_one(key), same, hash).or_insert(number as u32);
        }
        Ok(Self::Text { table, keys, hasher })
    }

    fn len(&self) -> usize {
        match self {
            Self::Whole { table, .. } | Self::Text { table, .. } => table.len(),
        }
    }

    fn lookup(&self, column: &ArrayRef) -> Result<Vec<Option<u32>>> {
        Ok(match self {
            Self::Whole { table, keys, hasher } => {
                let find = |key: i64| table.find(hasher.hash_one(key), |other| keys[*other as usize] == key).copied();
                column.as_primitive::<Int64Type>().iter().map(|key| key.and_then(find)).collect()
            }
            Self::Text { table, keys, hasher } => {
                let find =
                    |key: &str| table.find(hasher.hash_one(key), |other| keys.value(*other as usize) == key).copied();
                texts_of(column)?.iter().map(|key| key.and_then(find)).collect()
            }
        })
    }
}

/// Numbers the keys of a column that comes in pieces, in order of first appearance.
#[derive(Debug, Default)]
pub struct Numbering {
    seen: Seen,
    /// The keys that each piece brought, in their type.
    values: Vec<ArrayRef>,
}

#[derive(Debug, Default)]
enum Seen {
    #[default]
    Nothing,
    Whole {
        table: HashTable<(i64, u32)>,
        hasher: RandomState,
    },
    Text {
        table: HashTable<u32>,
        bytes: Vec<u8>,
        ends: Vec<usize>,
        hasher: RandomState,
    },
}

impl Numbering {
    /// Adds each row's number to `codes`: [`NO_KEY`] for NULL.
    pub fn number(&mut self, column: &ArrayRef, codes: &mut Vec<u32>) -> Result<()> {
        let column = normal(column)?;
        let mut firsts = Vec::new();
        if let Seen::Nothing = self.seen {
            self.seen = Seen::for_type(column.data_type());
        }
        match &mut self.seen {
            Seen::Nothing => {}
            Seen::Whole { table, hasher } => {
                for (row, key) in column.as_primitive::<Int64Type>().iter().enumerate() {
                    let Some(key) = key else {
                        codes.push(NO_KEY);
                        continue;
                    };
                    let next = table.len() as u32;
                    let hash = |entry: &(i64, u32)| hasher.hash_one(entry.0);
                    let entry = table.entry(hasher.hash_one(key), |entry| entry.0 == key, hash).or_insert((key, next));
                    let number = entry.get().1;
                    if number == next {
                        firsts.push(row as u32);
                    }
                    codes.push(number);
                }
            }
            Seen::Text { table, bytes, ends, hasher } => {
                for (row, key) in texts_of(&column)?.iter().enumerate() {
                    let Some(key) = key else {
                        codes.push(NO_KEY);
                        continue;
                    };
                    let text = |number: &u32| {
                        let number = *number as usize;
                        &bytes[number.checked_sub(1).map_or(0, |before| ends[before])..ends[number]]
                    };
                    let (key, next) = (key.as_bytes(), table.len() as u32);
                    let hash = |number: &u32| hasher.hash_one(text(number));
                    match table.find(hasher.hash_one(key), |number| text(number) == key) {
                        Some(number) => codes.push(*number),
                        None => {
                            table.insert_unique(hasher.hash_one(key), next, hash);
                            bytes.extend_from_slice(key);
                            ends.push(bytes.len());
                            firsts.push(row as u32);
                            codes.push(next);
                        }
                    }
                }
            }
        }
        if self.len() >= NO_KEY as usize {
            return Err(Error::unsupported("there are more keys than can be numbered (4 billion)"));
        }
        if !firsts.is_empty() {
            self.values.push(take(&column, &UInt32Array::from(firsts), None)?);
        }
        Ok(())
    }

    /// How many distinct keys there were.
    pub fn len(&self) -> usize {
        match &self.seen {
            Seen::Nothing => 0,
            Seen::Whole { table, .. } => table.len(),
            Seen::Text { table, .. } => table.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About the memory that it takes.
    pub fn bytes(&self) -> usize {
        let values: usize = self.values.iter().map(|values| values.get_array_memory_size()).sum();
        values + self.len() * 24 + if let Seen::Text { bytes, .. } = &self.seen { bytes.len() } else { 0 }
    }

    /// The keys of a column of that type.
    pub fn finish(self, data_type: &DataType) -> Result<Keys> {
        let Self { seen, values } = self;
        // What was needed to find keys goes before what finds them from now on is made.
        drop(seen);
        let values = match values.as_slice() {
            [] => normal(&new_empty_array(data_type))?,
            pieces => concat(&pieces.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())?,
        };
        let numbers = Index::of(&values)?;
        Ok(Keys { values, numbers })
    }
}

impl Seen {
    fn for_type(data_type: &DataType) -> Self {
        let hasher = RandomState::default();
        match data_type {
            DataType::Int64 => Self::Whole { table: HashTable::new(), hasher },
            _ => Self::Text { table: HashTable::new(), bytes: Vec::new(), ends: Vec::new(), hasher },
        }
    }
}

fn stable_hash(bytes: &[u8]) -> u64 {
    let mut hasher = Fnv::seeded(0);
    hasher.write(bytes);
    hasher.finish()
}

/// A column as plain text, whatever it holds.
fn texts_of(column: &ArrayRef) -> Result<StringArray> {
    Ok(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// One type per family, so that `int4` finds what `int8` stored.
fn normal(column: &ArrayRef) -> Result<ArrayRef> {
    let strict = CastOptions { safe: false, ..Default::default() };
    match column.data_type() {
        data_type if data_type.is_integer() => Ok(cast_with_options(column, &DataType::Int64, &strict)?),
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Dictionary(_, _) => Ok(cast(column, &DataType::Utf8)?),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let floats = cast(column, &DataType::Float64)?;
            if floats.as_primitive::<Float64Type>().iter().flatten().any(|key| key.fract() != 0.0) {
                return Err(Error::new(Kind::WrongType, "a key must not have a fraction")
                    .hint("cast the key column to bigint or text"));
            }
            Ok(cast_with_options(&floats, &DataType::Int64, &strict)?)
        }
        DataType::Struct(_) | DataType::List(_) | DataType::LargeList(_) | DataType::Map(_, _) => Err(Error::new(
            Kind::WrongType,
            format!("a column of type {} cannot be a key", sql_name(column.data_type())),
        )
        .hint("use a number, text, uuid or date as the key")),
        _ => Ok(Arc::clone(column)),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Date32Array, Float64Array, Int32Array, Int64Array, StringViewArray};

    use super::*;

    #[test]
    fn keys_are_numbered_as_they_appear_and_found_again_in_any_width() {
        let column: ArrayRef = Arc::new(Int32Array::from(vec![Some(7), None, Some(3), Some(7)]));
        let (keys, codes) = Keys::of(&column).unwrap();
        assert_eq!(codes, [Some(0), None, Some(1), Some(0)]);
        let asked: ArrayRef = Arc::new(Int64Array::from(vec![3, 4]));
        assert_eq!(keys.codes(&asked).unwrap(), [Some(1), None]);
        let with_fractions: ArrayRef = Arc::new(Float64Array::from(vec![3.0, 3.5, f64::NAN]));
        assert_eq!(keys.codes(&with_fractions).unwrap(), [Some(1), None, None]);
    }

    #[test]
    fn keys_of_another_kind_are_refused() {
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![7, 1]));
        let texts: ArrayRef = Arc::new(StringViewArray::from(vec!["7", "x"]));
        let truths: ArrayRef = Arc::new(datafusion::arrow::array::BooleanArray::from(vec![true]));
        let error = Keys::of(&numbers).unwrap().0.codes(&texts).unwrap_err();
        assert_eq!(error.kind, Kind::WrongType);
        assert_eq!(error.message, "the model knows keys of type bigint, not text");
        assert!(Keys::of(&numbers).unwrap().0.codes(&truths).is_err());
        assert!(Keys::of(&texts).unwrap().0.codes(&numbers).is_err());
    }

    #[test]
    fn text_dates_and_whole_floats_are_keys_too() {
        let text: ArrayRef = Arc::new(StringViewArray::from(vec!["ä", "b", "ä"]));
        let (keys, codes) = Keys::of(&text).unwrap();
        assert_eq!((keys.len(), codes), (2, vec![Some(0), Some(1), Some(0)]));
        let dates: ArrayRef = Arc::new(Date32Array::from(vec![1, 2]));
        assert_eq!(Keys::of(&dates).unwrap().0.codes(&dates).unwrap(), [Some(0), Some(1)]);
        let whole: ArrayRef = Arc::new(Float64Array::from(vec![17850.0]));
        assert_eq!(Keys::of(&whole).unwrap().0.data_type(), &DataType::Int64);
        let fraction: ArrayRef = Arc::new(Float64Array::from(vec![0.5]));
        assert!(Keys::of(&fraction).is_err());
    }
}
