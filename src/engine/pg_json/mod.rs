//! What SQL does with JSON documents: the operators `->`, `->>`, `#>`, `#>>`, `?`, `@>` and `<@`, and the functions beside
//! them. A document is kept as the text that it was written as.

mod build;
mod document;

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListBuilder, StringArray, StringBuilder,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::BinaryOperator;
use serde_json::Value;

use self::document::{Step, find, text, type_of, whole};
use crate::error::{Error, Kind, Result};

/// Registers them.
pub fn register(context: &mut SessionContext) -> Result<()> {
    for does in Does::EACH {
        let function = ScalarUDF::new_from_impl(JsonFunction::new(does));
        let aliases = does.names().iter().skip(1).copied();
        context.register_udf(Arc::new(function.with_aliases(aliases)))?;
    }
    build::register(context);
    context.register_expr_planner(Arc::new(Operators))?;
    Ok(())
}

/// Plans the operators as the functions that they are.
#[derive(Debug)]
struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> DataFusionResult<PlannerResult<RawBinaryExpr>> {
        let (does, turned) = match expr.op {
            BinaryOperator::Arrow => (Does::Get, false),
            BinaryOperator::LongArrow => (Does::GetText, false),
            BinaryOperator::HashArrow => (Does::Follow, false),
            BinaryOperator::HashLongArrow => (Does::FollowText, false),
            BinaryOperator::Question => (Does::Exists, false),
            BinaryOperator::AtArrow => (Does::Contains, false),
            BinaryOperator::ArrowAt => (Does::Contains, true),
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let is_text =
            |of: &Expr| matches!(of, Expr::Placeholder(_)) || of.get_type(schema).is_ok_and(|of| may_be_json(&of));
        // Arrays contain each other, too.
        if !is_text(&expr.left) || (does == Does::Contains && !is_text(&expr.right)) {
            return Ok(PlannerResult::Original(expr));
        }
        let typed = |of: Expr| match of {
            Expr::Placeholder(parameter) if parameter.field.is_none() => {
                datafusion::logical_expr::cast(Expr::Placeholder(parameter), DataType::Utf8)
            }
            of => of,
        };
        let RawBinaryExpr { left, right, .. } = expr;
        let (left, right) = if turned { (right, left) } else { (left, right) };
        let function = ScalarUDF::new_from_impl(JsonFunction::new(does));
        Ok(PlannerResult::Planned(function.call(vec![typed(left), typed(right)])))
    }
}

fn may_be_json(of: &DataType) -> bool {
    of.is_string() || *of == DataType::Null
}

/// What a function does with its first argument, a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Does {
    /// The member of a name, or the item at a place.
    Get,
    GetText,
    /// What a path leads to, given as an array.
    Follow,
    FollowText,
    /// The same, given as arguments.
    Extract,
    ExtractText,
    Exists,
    Contains,
    Length,
    TypeOf,
    /// The items of an array, as an array of SQL.
    Items,
    ItemTexts,
    Keys,
}

impl Does {
    const EACH: [Self; 13] = [
        Self::Get,
        Self::GetText,
        Self::Follow,
        Self::FollowText,
        Self::Extract,
        Self::ExtractText,
        Self::Exists,
        Self::Contains,
        Self::Length,
        Self::TypeOf,
        Self::Items,
        Self::ItemTexts,
        Self::Keys,
    ];

    /// Those of Postgres; where it has only an operator, our own.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Get => &["json_get"],
            Self::GetText => &["json_get_text"],
            Self::Follow => &["json_follow"],
            Self::FollowText => &["json_follow_text"],
            Self::Extract => &["json_extract_path", "jsonb_extract_path"],
            Self::ExtractText => &["json_extract_path_text", "jsonb_extract_path_text"],
            Self::Exists => &["jsonb_exists"],
            Self::Contains => &["jsonb_contains"],
            Self::Length => &["json_array_length", "jsonb_array_length"],
            Self::TypeOf => &["json_typeof", "jsonb_typeof"],
            Self::Items => &["json_items"],
            Self::ItemTexts => &["json_item_texts"],
            Self::Keys => &["json_keys"],
        }
    }

    fn signature(self) -> TypeSignature {
        match self {
            Self::Length | Self::TypeOf | Self::Items | Self::ItemTexts | Self::Keys => TypeSignature::Any(1),
            Self::Extract | Self::ExtractText => TypeSignature::VariadicAny,
            _ => TypeSignature::Any(2),
        }
    }

    fn gives(self) -> DataType {
        match self {
            Self::Exists | Self::Contains => DataType::Boolean,
            Self::Length => DataType::Int32,
            Self::Items | Self::ItemTexts | Self::Keys => DataType::new_list(DataType::Utf8, true),
            _ => DataType::Utf8,
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonFunction {
    does: Does,
    signature: Signature,
}

impl JsonFunction {
    fn new(does: Does) -> Self {
        Self { does, signature: Signature::new(does.signature(), Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for JsonFunction {
    fn name(&self) -> &str {
        self.does.names()[0]
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> DataFusionResult<DataType> {
        match args.first() {
            Some(document) if may_be_json(document) => Ok(self.does.gives()),
            document => {
                let of = document.map_or(String::new(), |of| crate::error::in_sql(&of.to_string()));
                let name = self.name();
                Err(Error::new(Kind::UnknownFunction, format!("function {name}({of}) does not exist"))
                    .hint("it reads a JSON document, which is text")
                    .into())
            }
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let n_rows = if constant { 1 } else { args.number_rows };
        let Some((document, others)) = args.args.split_first() else {
            return Err(Error::internal("a function of JSON without a document").into());
        };
        let documents = cast(&document.to_array(n_rows)?, &DataType::Utf8)?;
        let others = others.iter().map(|other| Other::read(other, n_rows)).collect::<Result<Vec<_>>>()?;
        let answer = answer(self.does, documents.as_string::<i32>(), &others)?;
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&answer, 0)?)),
            false => Ok(ColumnarValue::Array(answer)),
        }
    }
}

/// Another argument, a value a row.
enum Other {
    Places(ArrayRef),
    Texts(ArrayRef),
    Paths(ArrayRef),
}

impl Other {
    fn read(given: &ColumnarValue, n_rows: usize) -> Result<Self> {
        let given = given.to_array(n_rows)?;
        Ok(match given.data_type() {
            of if of.is_integer() => Self::Places(cast(&given, &DataType::Int64)?),
            of if of.is_nested() => Self::Paths(cast(&given, &DataType::new_list(DataType::Utf8, true))?),
            _ => Self::Texts(cast(&given, &DataType::Utf8)?),
        })
    }

    /// Where it leads to as the argument of an operator; `None`: it is NULL, or has one in it.
    fn steps(&self, does: Does, row: usize) -> Result<Option<Vec<Step<'_>>>> {
        let (Self::Places(values) | Self::Texts(values) | Self::Paths(values)) = self;
        if values.is_null(row) {
            return Ok(None);
        }
        let text = || values.as_string::<i32>().value(row);
        Ok(Some(match self {
            Self::Places(places) => vec![Step::place(places.as_primitive::<Int64Type>().value(row))],
            Self::Texts(_) if matches!(does, Does::Get | Does::GetText) => vec![Step::name(text())],
            Self::Texts(_) if matches!(does, Does::Extract | Does::ExtractText) => vec![Step::either(text())],
            Self::Texts(_) => return Step::path(text()),
            Self::Paths(paths) => {
                let items = paths.as_list::<i32>().value(row);
                let items: Option<Vec<String>> =
                    items.as_string::<i32>().iter().map(|item| item.map(str::to_owned)).collect();
                return Ok(items.map(|items| items.into_iter().map(Step::either).collect()));
            }
        }))
    }

    fn text(&self, row: usize) -> Option<&str> {
        match self {
            Self::Texts(texts) if texts.is_valid(row) => Some(texts.as_string::<i32>().value(row)),
            _ => None,
        }
    }
}

fn answer(does: Does, documents: &StringArray, others: &[Other]) -> Result<ArrayRef> {
    let rows = documents.iter().enumerate();
    Ok(match does {
        Does::Get | Does::Follow | Does::Extract => {
            let found = rows.map(|(row, document)| found(does, document, others, row));
            Arc::new(found.collect::<Result<StringArray>>()?)
        }
        Does::GetText | Does::FollowText | Does::ExtractText => {
            let mut texts = StringBuilder::new();
            for (row, document) in rows {
                texts.append_option(found(does, document, others, row)?.map(text).transpose()?.flatten());
            }
            Arc::new(texts.finish())
        }
        Does::Exists => Arc::new(of_two(rows, others, exists)?),
        Does::Contains => {
            Arc::new(of_two(rows, others, |document, other| Ok(contains(&parsed(document)?, &parsed(other)?)))?)
        }
        Does::Length => {
            let length = |document: &str| match document::array(document)? {
                Some(items) => Ok(i32::try_from(items.len()).unwrap_or(i32::MAX)),
                None if type_of(document)? == "object" => Err(Error::invalid("cannot get array length of a non-array")),
                None => Err(Error::invalid("cannot get array length of a scalar")),
            };
            Arc::new(documents.iter().map(|document| document.map(length).transpose()).collect::<Result<Int32Array>>()?)
        }
        Does::TypeOf => Arc::new(
            documents.iter().map(|document| document.map(type_of).transpose()).collect::<Result<StringArray>>()?,
        ),
        Does::Items | Does::ItemTexts | Does::Keys => lists(does, documents)?,
    })
}

fn found<'a>(does: Does, document: Option<&'a str>, others: &[Other], row: usize) -> Result<Option<&'a str>> {
    let Some(document) = document else { return Ok(None) };
    let mut path = Vec::new();
    for other in others {
        match other.steps(does, row)? {
            Some(steps) => path.extend(steps),
            None => return Ok(None),
        }
    }
    find(document, &path)
}

/// Of each document and the text beside it.
fn of_two<'a>(
    rows: impl Iterator<Item = (usize, Option<&'a str>)>,
    others: &[Other],
    of: impl Fn(&str, &str) -> Result<bool>,
) -> Result<BooleanArray> {
    let Some(other) = others.first() else { return Err(Error::internal("a function of one JSON document")) };
    let each = rows.map(|(row, document)| document.zip(other.text(row)).map(|(document, text)| of(document, text)));
    each.map(Option::transpose).collect()
}

/// Whether it is an object with that key, an array with that string, or that string.
fn exists(document: &str, key: &str) -> Result<bool> {
    Ok(match parsed(document)? {
        Value::Object(members) => members.contains_key(key),
        Value::Array(items) => items.iter().any(|item| item.as_str() == Some(key)),
        Value::String(text) => text == key,
        _ => false,
    })
}

/// Whether a document contains another. An array contains a bare item, too: the one exception that Postgres makes, and only
/// here.
fn contains(document: &Value, other: &Value) -> bool {
    match (document, other) {
        (Value::Array(items), wanted) if !wanted.is_object() && !wanted.is_array() => {
            items.iter().any(|item| holds(item, wanted))
        }
        _ => holds(document, other),
    }
}

/// Whether all that is in the other is in the value at the same place; in arrays the order does not count.
fn holds(value: &Value, other: &Value) -> bool {
    match (value, other) {
        (Value::Object(members), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| members.get(key).is_some_and(|member| holds(member, wanted)))
        }
        (Value::Array(items), Value::Array(wanted)) => {
            wanted.iter().all(|wanted| items.iter().any(|item| holds(item, wanted)))
        }
        // 1 and 1.0 are one number.
        (Value::Number(number), Value::Number(wanted)) => number == wanted || number.as_f64() == wanted.as_f64(),
        (value, wanted) => value == wanted,
    }
}

fn parsed(document: &str) -> Result<Value> {
    serde_json::from_str(whole(document)?)
        .map_err(|error| Error::new(Kind::InvalidText, format!("invalid input syntax for type json: {error}")))
}

fn lists(does: Does, documents: &StringArray) -> Result<ArrayRef> {
    let item = Field::new_list_field(DataType::Utf8, true);
    let mut lists = ListBuilder::new(StringBuilder::new()).with_field(item);
    for document in documents {
        let Some(document) = document else {
            lists.append(false);
            continue;
        };
        if does == Does::Keys {
            for key in document::keys(document)? {
                lists.values().append_value(key);
            }
        } else {
            let items = document::array(document)?;
            let items = items.ok_or_else(|| match type_of(document) {
                Ok("object") => Error::invalid("cannot extract elements from an object"),
                Ok(_) => Error::invalid("cannot extract elements from a scalar"),
                Err(error) => error,
            })?;
            for item in items {
                let item = if does == Does::Items { Some(Cow::Borrowed(item)) } else { text(item)? };
                lists.values().append_option(item);
            }
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}
