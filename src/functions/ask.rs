//! The options of a recommendation: from the call to arguments in the plan, and from these to what models are asked.

use std::collections::HashMap;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, ExprSchema, ScalarValue};
use datafusion::functions::core::expr_fn::named_struct;
use datafusion::logical_expr::{Expr, lit};
use datafusion::sql::sqlparser::ast;

use crate::error::{Error, Kind, Result};
use crate::frame::{Keys, Side};
use crate::functions::call::as_relation;
use crate::functions::constant::KeyType;
use crate::functions::model_function::Given;
use crate::functions::nodes::{gathered, gathered_column};
use crate::functions::recommend::{keys, recommender};
use crate::functions::{Call, Planner};
use crate::models::{Ask, Cap, Fitted, Recommender, Selection, Traits};

/// The names of the options, for the error that lists them.
pub const OPTIONS: [&str; 7] = ["k", "exclude_seen", "candidates", "cold_start", "min_score", "diversity", "max_per"];

const DEFAULT_K: i64 = 10;

/// The options of a call as arguments, in the order that [`read`] takes them.
pub fn arguments(call: &mut Call, planner: &mut dyn Planner, fitted: &Fitted) -> Result<Vec<Expr>> {
    let mut option = |name: &str, data_type: DataType, default: ScalarValue| -> Result<Expr> {
        Ok(call.option(planner, name, &data_type)?.unwrap_or_else(|| lit(default)))
    };
    let k = option("k", DataType::Int64, DEFAULT_K.into())?;
    let exclude_seen = option("exclude_seen", DataType::Boolean, true.into())?;
    let cold_start = option("cold_start", DataType::Utf8, "popular".into())?;
    let min_score = option("min_score", DataType::Float64, ScalarValue::Float64(None))?;
    let diversity = option("diversity", DataType::Float64, 0.0.into())?;
    let caps = call.named("max_per").map(|given| cap_names(planner.constant(given)?)).transpose()?.unwrap_or_default();
    let candidates = match call.named("candidates") {
        Some(given) => candidates(given, planner, fitted, &caps)?,
        None => lit(ScalarValue::Null),
    };
    if candidates == lit(ScalarValue::Null) {
        let traits = &recommender(fitted)?.history().traits;
        let is_known = |one: &Traits, name: &str| one.side == Side::Item && one.name.eq_ignore_ascii_case(name);
        let unknown = |(name, _): &&(String, usize)| !traits.iter().any(|one| is_known(one, name));
        if let Some((name, _)) = caps.iter().find(unknown) {
            return Err(no_group(&keys(fitted, Side::Item)?, name));
        }
    }
    let texts = caps.iter().map(|(name, most)| ScalarValue::from(format!("{name}:{most}"))).collect::<Vec<_>>();
    let caps = lit(ScalarValue::List(ScalarValue::new_list_nullable(&texts, &DataType::Utf8)));
    Ok(vec![k, exclude_seen, candidates, cold_start, min_score, diversity, caps])
}

/// What is asked, from the arguments after the customer.
pub fn read(model: &dyn Recommender, given: &Given) -> Result<(Ask, Selection)> {
    let k = given.whole(1)?.ok_or_else(|| Error::invalid("k must not be NULL"))?;
    let exclude_seen = given.truth(2)?.unwrap_or(true);
    let items = &model.history().items;
    let (mut candidates, mut groups) = (None, Vec::new());
    if let Some(rows) = listed(&given.scalar(3)?) {
        let (keys, values) = match rows.as_struct_opt() {
            Some(rows) => (rows.column(0).clone(), rows.columns()[1..].to_vec()),
            None => (rows, Vec::new()),
        };
        let codes = if keys.is_empty() { Vec::new() } else { items.codes(&keys)? };
        groups = values.iter().map(|values| groups_of(&codes, values)).collect::<Result<_>>()?;
        candidates = Some(ascending(codes));
    }
    let cold_start = match given.scalar(4)?.try_as_str().flatten() {
        Some("popular") => true,
        Some("none") => false,
        other => {
            let other = other.unwrap_or("NULL");
            return Err(Error::invalid(format!("cold_start must be 'popular' or 'none', not '{other}'")));
        }
    };
    let min_score = given.number(5)?.map(|score| score as f32);
    let diversity = given.number(6)?.unwrap_or(0.0);
    if !(0.0..=1.0).contains(&diversity) {
        return Err(Error::invalid(format!("diversity must be from 0 to 1, not {diversity}"))
            .hint("0 ranks by score alone; 0.3 is a good start"));
    }
    let mut groups = groups.into_iter();
    let caps = caps(given)?
        .into_iter()
        .map(|(name, most)| Ok(Cap { most, groups: groups.next().unwrap_or_else(|| groups_of_traits(model, &name)) }));
    let caps = caps.collect::<Result<Vec<_>>>()?;
    Ok((
        Ask { k: Ask::checked_k(k)?, exclude_seen, candidates, cold_start },
        Selection { min_score, diversity: diversity as f32, caps },
    ))
}

/// The option `candidates` of keys alone: those of a query or of an array, as one list.
pub fn candidate_keys(call: &mut Call, planner: &mut dyn Planner, keys: &KeyType) -> Result<Expr> {
    let Some(expr) = call.named("candidates") else { return Ok(lit(ScalarValue::Null)) };
    match as_relation(expr, planner)? {
        Ok(plan) => {
            keys.check_first(&plan)?;
            gathered_column(plan)
        }
        Err(expr) => keys.list(planner.constant(expr)?),
    }
}

/// The numbers of such candidates, ascending; `None`: all.
pub fn chosen(keys: &Keys, candidates: &ScalarValue) -> Result<Option<Vec<u32>>> {
    let codes = |list: ArrayRef| if list.is_empty() { Ok(Vec::new()) } else { keys.codes(&list) };
    Ok(listed(candidates).map(codes).transpose()?.map(ascending))
}

/// The elements of an argument that is a list. An empty query gathers to NULL; without candidates the type is Null.
fn listed(list: &ScalarValue) -> Option<ArrayRef> {
    match list {
        ScalarValue::List(lists) if lists.is_valid(0) => Some(lists.value(0)),
        ScalarValue::List(lists) => Some(lists.values().slice(0, 0)),
        _ => None,
    }
}

fn ascending(codes: Vec<Option<u32>>) -> Vec<u32> {
    let mut codes: Vec<u32> = codes.into_iter().flatten().collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// The candidates as a list: of products, or of structs of a product and its groups where these are capped.
fn candidates(given: ast::Expr, planner: &mut dyn Planner, fitted: &Fitted, caps: &[(String, usize)]) -> Result<Expr> {
    let items = keys(fitted, Side::Item)?;
    let plan = match as_relation(given, planner)? {
        Ok(plan) => plan,
        Err(given) => {
            return match caps.first() {
                None => items.list(planner.constant(given)?),
                Some((name, _)) => Err(no_group(&items, name)),
            };
        }
    };
    let columns = plan.schema().columns();
    let find = |name: &str| columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)).cloned();
    let Some(item) = find(items.column).or_else(|| columns.first().cloned()) else {
        return Err(Error::invalid("the query gives no column"));
    };
    items.check(plan.schema().field_from_column(&item)?.data_type())?;
    let value = group_fields(caps, &item, find).map_err(|name| no_group(&items, &name))?;
    gathered(plan, value)
}

/// The product alone, or a struct of it and the groups by which lists are capped; the name of the one that is not there.
fn group_fields(
    caps: &[(String, usize)],
    item: &Column,
    find: impl Fn(&str) -> Option<Column>,
) -> std::result::Result<Expr, String> {
    let item = Expr::Column(item.clone());
    if caps.is_empty() {
        return Ok(item);
    }
    let mut fields = vec![lit("item"), item];
    for (name, _) in caps {
        fields.extend([lit(name.clone()), Expr::Column(find(name).ok_or_else(|| name.clone())?)]);
    }
    Ok(named_struct(fields))
}

fn no_group(items: &KeyType, name: &str) -> Error {
    Error::new(Kind::UnknownColumn, format!("max_per names \"{name}\", which is not known of the products"))
        .hint(format!("give it with the products: candidates => (SELECT {}, {name} FROM …)", items.column))
}

/// `'category:2'`, or an array of such: columns of products, and how many of one value a list may hold.
fn cap_names(given: Expr) -> Result<Vec<(String, usize)>> {
    let refused = || {
        Error::invalid("max_per wants columns of products and how many of one value a list may hold")
            .hint("max_per => 'category:2', or ARRAY['category:2', 'brand:1']")
    };
    let texts = match given {
        Expr::Literal(value, _) => vec![value],
        Expr::ScalarFunction(array) if array.name() == "make_array" => {
            let literal = |arg: Expr| if let Expr::Literal(value, _) = arg { Ok(value) } else { Err(refused()) };
            array.args.into_iter().map(literal).collect::<Result<_>>()?
        }
        _ => return Err(refused()),
    };
    let read = |value: &ScalarValue| value.try_as_str().flatten().and_then(cap).ok_or_else(refused);
    texts.iter().map(read).collect()
}

fn cap(text: &str) -> Option<(String, usize)> {
    let (name, most) = text.rsplit_once(':')?;
    let most = most.trim().parse().ok().filter(|most| *most > 0)?;
    Some((name.trim().to_owned(), most))
}

fn caps(given: &Given) -> Result<Vec<(String, usize)>> {
    let ScalarValue::List(lists) = given.scalar(7)? else { return Ok(Vec::new()) };
    let texts = crate::frame::texts(&lists.value(0))?;
    Ok(texts.iter().flatten().filter_map(|text| cap(text)).collect())
}

/// For each product the numbers of its values in that column; NULL is none.
fn groups_of(items: &[Option<u32>], values: &ArrayRef) -> Result<HashMap<u32, Vec<u32>>> {
    let (_, values) = Keys::of(values)?;
    let mut groups: HashMap<u32, Vec<u32>> = HashMap::new();
    for (item, value) in items.iter().zip(values).filter_map(|(item, value)| item.zip(value)) {
        let of_item = groups.entry(item).or_default();
        if !of_item.contains(&value) {
            of_item.push(value);
        }
    }
    Ok(groups)
}

/// As [`groups_of`], by what the training query said of the products.
fn groups_of_traits(model: &dyn Recommender, name: &str) -> HashMap<u32, Vec<u32>> {
    let is_meant = |one: &&Traits| one.side == Side::Item && one.name.eq_ignore_ascii_case(name);
    let said = model.history().traits.iter().find(is_meant);
    let rows = said.into_iter().flat_map(|said| (0..said.matrix.n_rows).map(|item| (item, said.matrix.row(item).0)));
    rows.map(|(item, values)| (item as u32, values.to_vec())).collect()
}
