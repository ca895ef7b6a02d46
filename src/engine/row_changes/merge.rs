//! MERGE as a query: the target joined with the source, for each pair what is to be done, and with which values.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    self, AssignmentTarget, BinaryOperator, CaseWhen, ExceptSelectItem, Expr, Ident, Join, JoinConstraint,
    JoinOperator, MergeAction, MergeClause, MergeClauseKind, MergeInsertKind, ObjectName, ObjectNamePart, OutputClause,
    Query, Select, SelectItem, SelectItemQualifiedWildcardKind, TableAlias, TableFactor, TableWithJoins, Value,
    VisitMut, VisitorMut, WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::query::{
    assignments, change, column, columns_named, in_query, named, null, number_of, numbered, or_default, over, quoted,
    skeleton, typed, value_name,
};
use super::{Action, RowChange, What};
use crate::engine::dialect::DIALECT;
use crate::engine::statement::folded;
use crate::engine::{Session, headings};
use crate::error::{Error, Kind, Result};
use crate::storage::{Privilege, ROW_NUMBER, Relation};

/// Says of a row of the join that the source is in it.
const SOURCE: &str = "\0source";

/// The column that says what is done with a row.
const ACTION: &str = "\0action";

/// One WHEN: for which rows it is, and what it does with them.
struct When {
    condition: Expr,
    /// `None`: nothing.
    action: Option<Action>,
    /// For each column of the table its value; `None`: as it was.
    values: Vec<Option<Expr>>,
    /// What its role must be allowed, and on which columns; `None`: nothing.
    needs: Option<(Privilege, Vec<usize>)>,
}

pub(super) fn query(session: &Session, merge: &mut ast::Merge) -> Result<(RowChange, Query)> {
    let returned = match merge.output.take() {
        None => None,
        Some(OutputClause::Returning { select_items, .. }) => Some(select_items),
        Some(OutputClause::Output { .. }) => {
            return Err(Error::unsupported("MERGE … OUTPUT is not supported").hint("write RETURNING"));
        }
    };
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
    let needs: Vec<_> = whens.iter().filter_map(|when| when.needs.clone()).collect();
    let mut select = skeleton()?;
    let joins = vec![Join { relation: source.0, global: false, join_operator }];
    select.from = vec![TableWithJoins { relation: merge.table.clone(), joins }];
    let mut projection: Vec<SelectItem> = vec![number_of(&alias), named(actions(&whens), ACTION)];
    for (at, field) in relation.columns.fields().iter().enumerate() {
        let old = column(&alias, field.name());
        let value = |when: &When| when.values.get(at).cloned().flatten().unwrap_or_else(|| old.clone());
        let whens = whens.iter().map(|when| (when.condition.clone(), typed(value(when), field)));
        projection.push(named(case(whens.collect(), old.clone()), &value_name(at)));
    }
    select.projection = projection;
    let Some(items) = returned else { return Ok((change(&relation, What::Merge, None, needs), in_query(select))) };
    select.projection.push(all_but(&source.1, [SOURCE.to_owned()]));
    let seen = Returned { relation: &relation, target: folded(&alias), source: folded(&source.1) };
    let (select, from) = seen.over(select, items)?;
    Ok((change(&relation, What::Merge, Some(from), needs), in_query(select)))
}

/// What is done with rows, as RETURNING reads it: of the table the row as it becomes, or as it was where it goes; of the
/// source its row.
struct Returned<'a> {
    relation: &'a Relation,
    target: String,
    source: String,
}

/// What RETURNING reads from.
const MERGED: &str = "\0merged";

impl Returned<'_> {
    /// The columns that say what is done, before those of the source.
    fn own_columns(&self) -> impl Iterator<Item = String> {
        let values = (0..self.relation.columns.fields().len()).map(value_name);
        [ROW_NUMBER.to_owned(), ACTION.to_owned()].into_iter().chain(values)
    }

    /// The query around what is done, and where the columns begin in it that are returned.
    fn over(&self, done: Select, items: Vec<SelectItem>) -> Result<(Select, usize)> {
        let merged = quoted(MERGED);
        let mut select = over(done, &merged)?;
        select.projection = self.own_columns().map(|name| named(column(&merged, &name), &name)).collect();
        let from = select.projection.len();
        for item in items {
            self.add(item, &mut select.projection);
        }
        Ok((select, from))
    }

    fn add(&self, item: SelectItem, to: &mut Vec<SelectItem>) {
        // Under a name of its own, which clients see without its end.
        let as_heading = |expr: Expr, heading: &str, to: &mut Vec<SelectItem>| {
            let name = format!("{heading}{}{}", headings::HIDDEN, to.len());
            to.push(named(expr, &name));
        };
        let target = |to: &mut Vec<SelectItem>| {
            for (at, field) in self.relation.columns.fields().iter().enumerate() {
                as_heading(column(&quoted(MERGED), &value_name(at)), field.name(), to);
            }
        };
        let source = |to: &mut Vec<SelectItem>| {
            to.push(all_but(&quoted(MERGED), self.own_columns()));
        };
        match item {
            SelectItem::Wildcard(_) => {
                source(to);
                target(to);
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                let of = name.0.last().and_then(|part| part.as_ident()).map(folded).unwrap_or_default();
                match of {
                    of if of == self.target => target(to),
                    of if of == self.source => source(to),
                    _ => to.push(SelectItem::QualifiedWildcard(
                        SelectItemQualifiedWildcardKind::ObjectName(name),
                        options,
                    )),
                }
            }
            SelectItem::UnnamedExpr(expr) => {
                let heading = headings::heading(&expr);
                as_heading(self.read(expr), &heading, to);
            }
            SelectItem::ExprWithAlias { expr, alias } => as_heading(self.read(expr), &folded(&alias), to),
            other => to.push(other),
        }
    }

    /// The expression over what is done. A bare name is the table's column, if it has one. Queries inside read what they
    /// name themselves.
    fn read(&self, mut expr: Expr) -> Expr {
        struct Names<'a>(&'a Returned<'a>, usize);
        impl VisitorMut for Names<'_> {
            type Break = ();

            fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
                self.1 += 1;
                ControlFlow::Continue(())
            }

            fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
                self.1 -= 1;
                ControlFlow::Continue(())
            }

            fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
                if self.1 == 0
                    && let Some(read) = self.0.name(expr)
                {
                    *expr = read;
                }
                ControlFlow::Continue(())
            }
        }
        let _ = expr.visit(&mut Names(self, 0));
        expr
    }

    /// What a name stands for.
    fn name(&self, expr: &Expr) -> Option<Expr> {
        let merged = quoted(MERGED);
        let of_target = |name: &Ident| {
            let at = self.relation.columns.index_of(&folded(name)).ok()?;
            Some(column(&merged, &value_name(at)))
        };
        match expr {
            Expr::Identifier(name) => of_target(name),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [of, name] if folded(of) == self.target => of_target(name),
                [of, name] if folded(of) == self.source => Some(column(&merged, &folded(name))),
                _ => None,
            },
            Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("merge_action") => {
                let words = [Action::Update, Action::Delete, Action::Insert].map(|action| {
                    let is_it = Expr::BinaryOp {
                        left: Box::new(column(&merged, ACTION)),
                        op: BinaryOperator::Eq,
                        right: Box::new(number(action)),
                    };
                    (is_it, Expr::Value(Value::SingleQuotedString(action.word().to_owned()).into()))
                });
                Some(case(words.into(), null()))
            }
            _ => None,
        }
    }
}

/// All columns of a relation but these.
fn all_but(relation: &Ident, names: impl IntoIterator<Item = String>) -> SelectItem {
    let name = ObjectName(vec![ObjectNamePart::Identifier(relation.clone())]);
    let mut names = names.into_iter().map(|name| quoted(&name));
    let opt_except =
        names.next().map(|first| ExceptSelectItem { first_element: first, additional_elements: names.collect() });
    let options = WildcardAdditionalOptions { opt_except, ..Default::default() };
    SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options)
}

/// Stands for a column in a WHEN that does nothing: sqlparser 0.62 does not know DO NOTHING.
const NOTHING: &str = "\0nothing";

/// Spells `THEN DO NOTHING` as an action that the parser knows, and [`does_nothing`] knows again.
pub(in crate::engine) fn spell_nothing(tokens: &mut Vec<TokenWithSpan>) {
    let is = |token: &TokenWithSpan, word: &str| matches!(&token.token, Token::Word(found) if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word));
    if !tokens.iter().any(|token| is(token, "MERGE")) {
        return;
    }
    let words: Vec<usize> = (0..tokens.len()).filter(|at| matches!(tokens[*at].token, Token::Word(_))).collect();
    let mut found = Vec::new();
    let mut inserts = false;
    for (n, at) in words.iter().enumerate() {
        let at_words = |wanted: &[&str]| {
            let there = words.get(n..n + wanted.len()).unwrap_or_default();
            there.len() == wanted.len() && there.iter().zip(wanted).all(|(at, word)| is(&tokens[*at], word))
        };
        if at_words(&["NOT", "MATCHED"]) {
            inserts = !words
                .get(n + 2..n + 4)
                .is_some_and(|next| is(&tokens[next[0]], "BY") && is(&tokens[next[1]], "SOURCE"));
        } else if at_words(&["WHEN", "MATCHED"]) {
            inserts = false;
        } else if at_words(&["THEN", "DO", "NOTHING"]) {
            found.push((at + 1..words[n + 2] + 1, inserts));
        }
    }
    for (range, inserts) in found.into_iter().rev() {
        let spelled = match inserts {
            true => format!("INSERT (\"{NOTHING}\") VALUES (0)"),
            false => format!("UPDATE SET \"{NOTHING}\" = 0"),
        };
        let span = tokens[range.start].span;
        let spelled = Tokenizer::new(&DIALECT, &spelled).tokenize().unwrap_or_default();
        tokens.splice(range, spelled.into_iter().map(|token| TokenWithSpan { token, span }));
    }
}

fn does_nothing(action: &MergeAction) -> bool {
    let is_marked =
        |name: &ObjectName| name.0.iter().any(|part| part.as_ident().is_some_and(|name| name.value == NOTHING));
    match action {
        MergeAction::Update(update) => update
            .assignments
            .iter()
            .any(|assignment| matches!(&assignment.target, AssignmentTarget::ColumnName(name) if is_marked(name))),
        MergeAction::Insert(insert) => insert.columns.iter().any(is_marked),
        MergeAction::Delete { .. } => false,
    }
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
    if does_nothing(&clause.action) {
        return Ok(When { condition, action: None, values: Vec::new(), needs: None });
    }
    let (action, values, needs) = match clause.action {
        MergeAction::Delete { .. } if !inserts => (Action::Delete, Vec::new(), (Privilege::Delete, Vec::new())),
        MergeAction::Update(mut update) if !inserts => {
            if update.update_predicate.is_some() || update.delete_predicate.is_some() {
                return Err(Error::unsupported("WHERE in the UPDATE of a MERGE is not supported")
                    .hint("write WHEN MATCHED AND condition THEN UPDATE …"));
            }
            let mut values = vec![None; relation.columns.fields().len()];
            let mut columns = Vec::new();
            for (at, value) in assignments(relation, &mut update.assignments)? {
                values[at] = Some(or_default(session, value, relation, at)?);
                columns.push(at);
            }
            (Action::Update, values, (Privilege::Update, columns))
        }
        MergeAction::Insert(insert) if inserts => {
            if insert.insert_predicate.is_some() {
                return Err(Error::unsupported("WHERE in the INSERT of a MERGE is not supported")
                    .hint("write WHEN NOT MATCHED AND condition THEN INSERT …"));
            }
            let columns = columns_named(relation, &insert.columns)?;
            (Action::Insert, inserted(session, insert, relation)?, (Privilege::Insert, columns))
        }
        MergeAction::Insert(_) => return Err(Error::new(Kind::Syntax, "WHEN MATCHED cannot INSERT: the row is there")),
        _ => return Err(Error::new(Kind::Syntax, "WHEN NOT MATCHED can only INSERT: there is no row to change")),
    };
    Ok(When { condition, action: Some(action), values, needs: Some(needs) })
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
    let done = |when: &When| when.action.map_or_else(null, number);
    case(whens.iter().map(|when| (when.condition.clone(), done(when))).collect(), null())
}

fn number(action: Action) -> Expr {
    Expr::Value(Value::Number((action as i32).to_string(), false).into())
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
