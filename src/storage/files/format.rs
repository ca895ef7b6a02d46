//! What files are written in, and the options that say how.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::parsers::CompressionTypeVariant;
use datafusion::config::TableParquetOptions;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion_datasource_avro::file_format::AvroFormat;

use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Parquet,
    Csv,
    Json,
    Avro,
    Arrow,
}

/// What an option says, by name: text.
pub type Options = BTreeMap<String, String>;

const COMPRESSIONS: &[(&str, CompressionTypeVariant)] = &[
    ("gz", CompressionTypeVariant::GZIP),
    ("bz2", CompressionTypeVariant::BZIP2),
    ("xz", CompressionTypeVariant::XZ),
    ("zst", CompressionTypeVariant::ZSTD),
];

impl Format {
    /// All of them, by the name that the catalog keeps, with the endings of their files' names.
    pub const ALL: &[(Self, &str, &[&str])] = &[
        (Self::Parquet, "parquet", &["parquet", "pq"]),
        (Self::Csv, "csv", &["csv", "tsv", "txt"]),
        (Self::Json, "json", &["json", "jsonl", "ndjson"]),
        (Self::Avro, "avro", &["avro"]),
        (Self::Arrow, "arrow", &["arrow", "feather", "ipc"]),
    ];

    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_lowercase();
        Self::ALL
            .iter()
            .find(|(_, known, endings)| *known == name || endings[1..].contains(&name.as_str()))
            .map(|all| all.0)
    }

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(of, ..)| *of == self).map_or("", |(_, name, _)| name)
    }

    /// The format of a file by the end of its name, and the options that the end says.
    pub fn of_file(name: &str) -> Option<(Self, Options)> {
        let name = name.to_lowercase();
        let (plain, compression) = split_compression(&name);
        let ending = plain.rsplit_once('.')?.1;
        let (format, ..) = Self::ALL.iter().find(|(.., endings)| endings.contains(&ending))?;
        let mut options = Options::new();
        if let Some(compression) = compression.filter(|_| format.is_text()) {
            options.insert("compression".to_owned(), compression.to_owned());
        }
        if ending == "tsv" {
            options.insert("delimiter".to_owned(), "\t".to_owned());
        }
        Some((*format, options))
    }

    /// Whether a file of that name is of this format.
    pub fn claims(self, name: &str) -> bool {
        Self::of_file(name).is_some_and(|(format, _)| format == self)
    }

    /// Whether columns stand in a file in an order of their own, under no name that readers go by.
    pub fn is_positional(self) -> bool {
        self == Self::Csv
    }

    /// Whether types are guessed from values.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Csv | Self::Json)
    }

    /// The options that this format knows.
    fn known(self) -> &'static [&'static str] {
        match self {
            Self::Csv => {
                &["header", "delimiter", "quote", "escape", "comment", "null", "newlines_in_values", "compression"]
            }
            Self::Json => &["newline_delimited", "compression"],
            Self::Parquet | Self::Avro | Self::Arrow => &[],
        }
    }

    /// The options as given, each under its one name and with a value that it can have.
    pub fn checked(self, given: &[(String, String)]) -> Result<Options> {
        let mut options = Options::new();
        for (name, value) in given {
            let name = name.to_lowercase();
            let name = name.strip_prefix("format.").unwrap_or(&name);
            let name = match name {
                "has_header" => "header",
                "nullstr" | "null_value" => "null",
                "delim" | "sep" => "delimiter",
                other => other,
            };
            if !self.known().contains(&name) {
                let message = format!("option \"{name}\" of files stored as {} is not known", self.name());
                return Err(match self.known() {
                    [] => Error::invalid(message).hint("files of this format need no options"),
                    known => Error::invalid(message).suggest(name, known.iter().copied()),
                });
            }
            if options.insert(name.to_owned(), value.clone()).is_some() {
                return Err(Error::invalid(format!("option \"{name}\" is given twice")));
            }
        }
        for name in ["header", "newlines_in_values", "newline_delimited"] {
            switch(&options, name, true)?;
        }
        for name in ["delimiter", "quote", "escape", "comment"] {
            letter(&options, name)?;
        }
        compression(&options)?;
        Ok(options)
    }

    /// How DataFusion reads files that are written so. `sample`: rows that types are guessed from.
    pub fn reader(self, options: &Options, sample: usize, state: &dyn Session) -> Result<Arc<dyn FileFormat>> {
        let compression = compression(options)?;
        Ok(match self {
            Self::Parquet => {
                let global = state.config_options().execution.parquet.clone();
                let options = TableParquetOptions { global, ..TableParquetOptions::default() };
                Arc::new(ParquetFormat::default().with_options(options).with_force_view_types(false))
            }
            Self::Csv => Arc::new(
                CsvFormat::default()
                    .with_has_header(switch(options, "header", true)?)
                    .with_delimiter(letter(options, "delimiter")?.unwrap_or(b','))
                    .with_quote(letter(options, "quote")?.unwrap_or(b'"'))
                    .with_escape(letter(options, "escape")?)
                    .with_comment(letter(options, "comment")?)
                    .with_null_regex(options.get("null").map(|null| format!("^(?:{})?$", escaped(null))))
                    // Whoever cuts a file into pieces must know that no value holds the end of a line.
                    .with_newlines_in_values(switch(options, "newlines_in_values", true)?)
                    .with_schema_infer_max_rec(sample)
                    .with_file_compression_type(compression),
            ),
            Self::Json => Arc::new(
                JsonFormat::default()
                    .with_newline_delimited(switch(options, "newline_delimited", true)?)
                    .with_schema_infer_max_rec(sample)
                    .with_file_compression_type(compression),
            ),
            Self::Avro => Arc::new(AvroFormat),
            Self::Arrow => Arc::new(ArrowFormat),
        })
    }
}

/// A text as a regular expression that matches it alone.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        if letter.is_ascii_punctuation() {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

fn split_compression(name: &str) -> (&str, Option<&'static str>) {
    for (ending, _) in COMPRESSIONS {
        if let Some(plain) = name.strip_suffix(ending).and_then(|name| name.strip_suffix('.')) {
            return (plain, Some(ending));
        }
    }
    (name, None)
}

pub fn compression(options: &Options) -> Result<FileCompressionType> {
    let Some(given) = options.get("compression") else { return Ok(FileCompressionType::UNCOMPRESSED) };
    given.parse().map_err(|_| {
        Error::invalid(format!("compression \"{given}\" is not known")).hint("gzip, bzip2, xz, zstd or uncompressed")
    })
}

pub fn switch(options: &Options, name: &str, default: bool) -> Result<bool> {
    let Some(given) = options.get(name) else { return Ok(default) };
    match given.to_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => Err(Error::invalid(format!("option \"{name}\" is true or false, not \"{given}\""))),
    }
}

pub fn letter(options: &Options, name: &str) -> Result<Option<u8>> {
    match options.get(name).map(|given| (given, given.as_bytes())) {
        None => Ok(None),
        Some((_, [letter])) => Ok(Some(*letter)),
        Some((given, _)) if given == "\\t" => Ok(Some(b'\t')),
        Some((given, _)) => {
            Err(Error::invalid(format!("option \"{name}\" must be a single one-byte character, not \"{given}\"")))
        }
    }
}
