//! MERGE as a query: the target joined with the source, for each pair what is to be done, and with which values.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, CaseWhen, Expr, Ident, Join, JoinConstraint, JoinOperator, MergeAction, MergeClause,
    MergeClauseKind, MergeInsertKind, Query, SelectItem, TableAlias, TableFactor, TableWithJoins, Value,
};

use super::query::{
    assignments, change, column, columns_named, in_query, named, null, number_of, numbered, or_default, skeleton,
    typed, value_name,
};
use super::{Action, RowChange, What};
use crate::engine::Session;
use crate::error::{Error, Kind, Result};
use crate::storage::{ROW_NUMBER, Relation};

/// Says of a row of the join that the source is in it.
const SOURCE: &str = "\0source";

/// One WHEN: for which rows it is, and what it does with them.
struct When {
    condition: Expr,
    action: Action,
    /// For each column of the table its value; `None`: as it was.
    values: Vec<Option<Expr>>,
}

pub(super) fn query(session: &Session, merge: &mut ast::Merge) -> Result<(RowChange, Query)> {
    if merge.output.is_some() {
        return Err(Error::unsupported("MERGE … RETURNING is not supported"));
    }
    let (relation, alias) = numbered(session, &mut merge.table, "merge into")?;
    let source = with_mark(merge.source.clone())?;
    let is_of = |kind: MergeClauseKind| move |clause: &MergeClause| clause.clause_kind == kind;
    let any = |kind: MergeClauseKind| merge.clauses.iter().any(is_of(kind));
    let (adds, sees_all) = (
        any(MergeClauseKind::NotMatched) || any(MergeClauseKind::NotMatchedByTarget),
        any(MergeClauseKind::NotMatchedBySource),
    );
    let on = JoinConstraint::On((*merge.on).clone());
    let join_operator = match (adds, sees_all) {
        (false, false) => JoinOperator::Inner(on),
        (true, false) => JoinOperator::RightOuter(on),
        (false, true) => JoinOperator::LeftOuter(on),
        (true, true) => JoinOperator::FullOuter(on),
    };
    let clauses = std::mem::take(&mut merge.clauses);
    let whens = clauses
        .into_iter()
        .map(|clause| when(session, clause, &relation, &alias, &source.1))
        .collect::<Result<Vec<_>>>()?;
    let mut select = skeleton()?;
    let joins = vec![Join { relation: source.0, global: false, join_operator }];
    select.from = vec![TableWithJoins { relation: merge.table.clone(), joins }];
    let mut projection: Vec<SelectItem> = vec![number_of(&alias), named(actions(&whens), "\0action")];
    for (at, field) in relation.columns.fields().iter().enumerate() {
        let old = column(&alias, field.name());
        let value = |when: &When| when.values.get(at).cloned().flatten().unwrap_or_else(|| old.clone());
        let whens = whens.iter().map(|when| (when.condition.clone(), typed(value(when), field)));
        projection.push(named(case(whens.collect(), old.clone()), &value_name(at)));
    }
    select.projection = projection;
    Ok((change(&relation, What::Merge, None), in_query(select)))
}

/// The source with one more column, which is never NULL: a row of the join without a source has NULL there.
fn with_mark(source: TableFactor) -> Result<(TableFactor, Ident)> {
    let alias = match &source {
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
            alias.clone()
        }
        TableFactor::Table { name, .. } => {
            let name = name.0.last().and_then(|part| part.as_ident()).cloned();
            let name = name.ok_or_else(|| Error::new(Kind::Syntax, "the source of MERGE has no name"))?;
            TableAlias { explicit: true, name, columns: Vec::new(), at: None }
        }
        _ => {
            return Err(Error::new(Kind::Syntax, "the source of MERGE needs a name")
                .hint("MERGE INTO t USING (SELECT …) AS s ON …"));
        }
    };
    let mut select = skeleton()?;
    select.from = vec![TableWithJoins { relation: source, joins: Vec::new() }];
    let yes = Expr::Value(Value::Boolean(true).into());
    select.projection = vec![SelectItem::Wildcard(Default::default()), named(yes, SOURCE)];
    let known_as = alias.name.clone();
    let alias = TableAlias { columns: Vec::new(), ..alias };
    let subquery = Box::new(in_query(select));
    Ok((TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None }, known_as))
}

fn when(session: &Session, clause: MergeClause, relation: &Relation, alias: &Ident, source: &Ident) -> Result<When> {
    let is_there = |place: Expr| Expr::IsNotNull(Box::new(place));
    let is_missing = |place: Expr| Expr::IsNull(Box::new(place));
    let (target, source) = (column(alias, ROW_NUMBER), column(source, SOURCE));
    let mut condition = match clause.clause_kind {
        MergeClauseKind::Matched => and(is_there(target), is_there(source)),
        MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget => is_missing(target),
        MergeClauseKind::NotMatchedBySource => is_missing(source),
    };
    if let Some(predicate) = clause.predicate {
        condition = and(condition, Expr::Nested(Box::new(predicate)));
    }
    let inserts = matches!(clause.clause_kind, MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget);
    let (action, values) = match clause.action {
        MergeAction::Delete { .. } if !inserts => (Action::Delete, Vec::new()),
        MergeAction::Update(mut update) if !inserts => {
            if update.update_predicate.is_some() || update.delete_predicate.is_some() {
                return Err(Error::unsupported("WHERE in the UPDATE of a MERGE is not supported")
                    .hint("write WHEN MATCHED AND condition THEN UPDATE …"));
            }
            let mut values = vec![None; relation.columns.fields().len()];
            for (at, value) in assignments(relation, &mut update.assignments)? {
                values[at] = Some(or_default(session, value, relation, at)?);
            }
            (Action::Update, values)
        }
        MergeAction::Insert(insert) if inserts => {
            if insert.insert_predicate.is_some() {
                return Err(Error::unsupported("WHERE in the INSERT of a MERGE is not supported")
                    .hint("write WHEN NOT MATCHED AND condition THEN INSERT …"));
            }
            (Action::Insert, inserted(session, insert, relation)?)
        }
        MergeAction::Insert(_) => return Err(Error::new(Kind::Syntax, "WHEN MATCHED cannot INSERT: the row is there")),
        _ => return Err(Error::new(Kind::Syntax, "WHEN NOT MATCHED can only INSERT: there is no row to change")),
    };
    Ok(When { condition, action, values })
}

fn inserted(session: &Session, insert: ast::MergeInsertExpr, relation: &Relation) -> Result<Vec<Option<Expr>>> {
    let fields = relation.columns.fields();
    let MergeInsertKind::Values(values) = insert.kind else {
        return Err(Error::unsupported("INSERT ROW is not supported").hint("write INSERT (columns) VALUES (…)"));
    };
    let Some(row) = values.rows.into_iter().next() else {
        return Err(Error::new(Kind::Syntax, "INSERT of a MERGE has no values"));
    };
    let given = columns_named(relation, &insert.columns)?;
    if row.content.len() > given.len() || (!insert.columns.is_empty() && row.content.len() < given.len()) {
        let message = format!("INSERT has {} values for {} columns", row.content.len(), given.len());
        return Err(Error::new(Kind::Syntax, message));
    }
    let mut new = Vec::with_capacity(fields.len());
    for at in 0..fields.len() {
        new.push(Some(session.default_of(relation, at)?.unwrap_or_else(null)));
    }
    for (value, at) in row.content.into_iter().zip(given) {
        new[at] = Some(or_default(session, value, relation, at)?);
    }
    Ok(new)
}

/// What is done with a row: the first WHEN that fits says it; NULL where none does.
fn actions(whens: &[When]) -> Expr {
    let number = |action: Action| Expr::Value(Value::Number((action as i32).to_string(), false).into());
    case(whens.iter().map(|when| (when.condition.clone(), number(when.action))).collect(), null())
}

fn case(conditions: Vec<(Expr, Expr)>, otherwise: Expr) -> Expr {
    let conditions = conditions.into_iter().map(|(condition, result)| CaseWhen { condition, result }).collect();
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions,
        else_result: Some(Box::new(otherwise)),
    }
}

fn and(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) }
}
