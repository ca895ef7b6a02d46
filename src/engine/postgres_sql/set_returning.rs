//! Functions that return rows and are not ours: `unnest`, `generate_series`, `json_array_elements`, … in FROM and among the
//! columns. The planner unnests arrays; what gives rows in Postgres is the array of them here.

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, Ident, Select, SelectItem, TableAlias, TableAliasColumnDef, TableFactor,
};

use super::{last, parsed};

/// A function that gives rows, by the names it has; the function that gives an array of them; what its column is called,
/// whatever the relation is.
type Rows = (&'static [&'static str], &'static str, Option<&'static str>);

const OF_ARRAYS: [Rows; 3] = [
    (&["json_array_elements", "jsonb_array_elements"], "json_items", Some("value")),
    (&["json_array_elements_text", "jsonb_array_elements_text"], "json_item_texts", Some("value")),
    (&["json_object_keys", "jsonb_object_keys"], "json_keys", None),
];

fn of_array(name: &str) -> Option<&'static Rows> {
    OF_ARRAYS.iter().find(|(names, _, _)| names.iter().any(|known| known.eq_ignore_ascii_case(name)))
}

/// Makes rows of such a function among the columns, as Postgres does.
pub fn among_columns(select: &mut Select) {
    for item in &mut select.projection {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = &mut *item else { continue };
        let Expr::Function(call) = &*expr else { continue };
        let Some(name) = last(&call.name).map(|name| name.value.to_lowercase()) else { continue };
        let array = match of_array(&name) {
            Some((_, array, _)) => format!("{array}{}", call.args),
            None if name == "generate_series" => expr.to_string(),
            None => continue,
        };
        let Some(rows) = parsed(&format!("unnest({array})")) else { continue };
        match item {
            SelectItem::UnnamedExpr(_) => {
                *item = SelectItem::ExprWithAlias { expr: rows, alias: Ident::new(name) };
            }
            SelectItem::ExprWithAlias { expr, .. } => *expr = rows,
            _ => {}
        }
    }
}

/// Writes those in FROM as the planner knows them.
pub fn in_from(select: &mut Select) {
    for table in &mut select.from {
        relation(&mut table.relation);
        table.joins.iter_mut().for_each(|join| relation(&mut join.relation));
    }
}

fn relation(factor: &mut TableFactor) {
    let rewritten = match &*factor {
        TableFactor::UNNEST { alias, array_exprs, with_ordinality, .. } => {
            let arrays: Vec<String> = array_exprs.iter().map(ToString::to_string).collect();
            Some(unnested(&arrays, *with_ordinality, alias.as_ref(), "unnest", None))
        }
        TableFactor::Table { name, args: Some(args), alias, with_ordinality, .. } => {
            last(name).and_then(|name| function(&name.value, &args.args, *with_ordinality, alias.as_ref()))
        }
        TableFactor::Function { name, args, alias, with_ordinality, .. } => {
            last(name).and_then(|name| function(&name.value, args, *with_ordinality, alias.as_ref()))
        }
        _ => None,
    };
    if let Some(rewritten) = rewritten.and_then(|sql| super::factor(&sql)) {
        *factor = rewritten;
    }
}

/// `pg_catalog.unnest(array)`, which the parser takes for any function; and functions whose rows an array has.
fn function(name: &str, args: &[FunctionArg], numbered: bool, alias: Option<&TableAlias>) -> Option<String> {
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    if name.eq_ignore_ascii_case("unnest") {
        return Some(unnested(&args, numbered, alias, "unnest", None));
    }
    if let Some((_, array, column)) = of_array(name) {
        let array = format!("{array}({})", args.join(", "));
        return Some(unnested(&[array], numbered, alias, &name.to_lowercase(), *column));
    }
    if name.eq_ignore_ascii_case("generate_series") && numbered {
        let array = format!("generate_series({})", args.join(", "));
        return Some(unnested(&[array], numbered, alias, "generate_series", None));
    }
    None
}

/// A relation of the rows of arrays, and of their numbers with WITH ORDINALITY. A column without a name is called as the relation.
fn unnested(arrays: &[String], numbered: bool, alias: Option<&TableAlias>, name: &str, column: Option<&str>) -> String {
    let alias = alias.cloned().unwrap_or_else(|| TableAlias {
        explicit: true,
        name: Ident::new(name),
        columns: Vec::new(),
        at: None,
    });
    let mut names: Vec<TableAliasColumnDef> = alias.columns;
    let first = column.map_or_else(|| alias.name.clone(), Ident::new);
    let others = (1..arrays.len()).map(|_| Ident::new("unnest"));
    let number = numbered.then(|| Ident::new("ordinality"));
    let defaults = std::iter::once(first).chain(others).chain(number);
    names.extend(defaults.skip(names.len()).map(|name| TableAliasColumnDef { name, data_type: None }));
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut arrays = arrays.to_vec();
    if numbered {
        // The longest array has the most rows.
        let lengths: Vec<String> =
            arrays.iter().map(|array| format!("CAST(coalesce(array_length({array}), 0) AS BIGINT)")).collect();
        arrays.push(format!("generate_series(1, greatest({}))", lengths.join(", ")));
    }
    format!("unnest({}) AS {}({})", arrays.join(", "), alias.name, names.join(", "))
}
