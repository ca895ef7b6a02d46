//! What is changed in a statement between the parser and the planner.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as Sql;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, Select, TableFactor, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::parser::Parser;

use crate::engine::dialect::DIALECT;
use crate::engine::lateral::{self, names_one_of};
use crate::engine::postgres_sql;
use crate::functions::function;

/// A chain of AND or OR shorter than this stays as it was parsed.
const SHORT: usize = 16;

/// Rewrites every query of a statement.
pub(super) fn rewrite(sql: &mut Sql) {
    match sql {
        Sql::Statement(statement) => {
            let _ = statement.visit(&mut Rewrite::default());
        }
        Sql::Explain(explain) => rewrite(&mut explain.statement),
        _ => {}
    }
}

/// Rewrites a query that stands in a statement of ours.
pub(super) fn rewrite_query(query: &mut ast::Query) {
    let _ = query.visit(&mut Rewrite::default());
}

#[derive(Default)]
struct Rewrite {
    /// The names of the relations in FROM, of each query that the place is in.
    relations: Vec<Vec<String>>,
}

impl VisitorMut for Rewrite {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<()> {
        postgres_sql::fetch(query);
        postgres_sql::sort_by_column(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        postgres_sql::expression(expr);
        if let Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } = expr {
            let op = op.clone();
            if is_longer(expr, &op, SHORT) {
                *expr = balanced(operands(take(expr), &op), &op);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        postgres_sql::system_columns(select);
        postgres_sql::set_returning::among_columns(select);
        postgres_sql::set_returning::in_from(select);
        postgres_sql::among_columns(select);
        self.relations.push(lateral::mark(select));
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &mut Select) -> ControlFlow<()> {
        self.relations.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, relation: &mut TableFactor) -> ControlFlow<()> {
        postgres_sql::relation(relation);
        let (name, args, lateral) = match relation {
            TableFactor::Table { name, args: Some(args), .. } => (name, &mut args.args, false),
            TableFactor::Function { name, args, lateral, .. } => (name, args, *lateral),
            _ => return ControlFlow::Continue(()),
        };
        let outside = self.relations.split_last().map_or(&[][..], |(_, outside)| outside).concat();
        if let Some(function) = function(&name.to_string()) {
            let model_first = function.doc().arguments.first().is_some_and(|(name, _)| *name == "model");
            let tables = args.iter_mut().skip(usize::from(model_first));
            tables.filter(|arg| !names_one_of(arg, &outside)).for_each(|arg| table_to_query(arg, lateral));
        }
        ControlFlow::Continue(())
    }
}

/// `predict('m', visits)` to `predict('m', (SELECT * FROM visits))`: the planner looks up the tables of a statement
/// before it plans, and looks for them in FROM. After LATERAL a name is a column of what stands before it. A function
/// that answers with rows is a table, too.
fn table_to_query(arg: &mut FunctionArg, lateral: bool) {
    let expr = match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) if !lateral => expr,
        FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } if name.value == "candidates" => expr,
        _ => return,
    };
    let is_table = match &*expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => true,
        Expr::Function(call) => function(&call.name.to_string()).is_some_and(|called| called.relation().is_some()),
        _ => false,
    };
    if is_table {
        let all = Parser::new(&DIALECT).try_with_sql(&format!("SELECT * FROM {expr}"));
        if let Ok(query) = all.and_then(|mut parser| parser.parse_query()) {
            *expr = Expr::Subquery(query);
        }
    }
}

/// Whether the left spine of a chain has more than `n` links.
fn is_longer(mut expr: &Expr, op: &BinaryOperator, n: usize) -> bool {
    for _ in 0..n {
        match expr {
            Expr::BinaryOp { left, op: found, .. } if found == op => expr = left,
            _ => return false,
        }
    }
    true
}

/// What a chain joins, from left to right.
fn operands(mut chain: Expr, op: &BinaryOperator) -> Vec<Expr> {
    let mut from_right = Vec::new();
    loop {
        match chain {
            Expr::BinaryOp { left, op: found, right } if found == *op => {
                from_right.push(*right);
                chain = *left;
            }
            first => {
                from_right.push(first);
                from_right.reverse();
                return from_right;
            }
        }
    }
}

/// AND and OR do not mind how they are bracketed, and a planner that walks by recursion minds very much: as a tree of
/// even depth thousands of them cost no more than thousands of anything.
fn balanced(mut operands: Vec<Expr>, op: &BinaryOperator) -> Expr {
    while operands.len() > 1 {
        let mut pairs = Vec::with_capacity(operands.len().div_ceil(2));
        let mut rest = operands.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => Expr::BinaryOp { left: Box::new(left), op: op.clone(), right: Box::new(right) },
                None => left,
            });
        }
        operands = pairs;
    }
    operands.pop().unwrap_or_else(nothing)
}

fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, nothing())
}

fn nothing() -> Expr {
    Expr::Value(ast::Value::Null.into())
}
