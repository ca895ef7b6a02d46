//! `ALTER TABLE`: columns that come, go and change, and constraints.

mod shape;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::TableReference;
use datafusion::execution::session_state::SessionState;
use datafusion::sql::sqlparser::ast::{AlterColumnOperation, AlterTableOperation, ColumnOption, TableConstraint};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use futures::TryStreamExt;
use tokio_util::sync::CancellationToken;

use self::shape::{Filler, Shape};
use crate::engine::definitions::the_table;
use crate::engine::statement::{self, Own, at_words, folded, relation, syntax, take_words};
use crate::engine::work::not_in_the_way;
use crate::engine::{Answer, Run, Session};
use crate::error::{Error, Kind, Result};
use crate::storage::{Change, Definition, LakeTable, Relation, Replaces, Store, TableId};

pub struct Grammar;

#[derive(Debug)]
struct AlterTable {
    table: TableReference,
    if_exists: bool,
    operations: Vec<AlterTableOperation>,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "ALTER TABLE"
    }

    fn doc(&self) -> &'static str {
        "Adds, drops, renames and changes columns, their defaults and constraints; several at once are one change. Where \
         values change the table's files are written anew. Earlier versions keep the columns that they had. Views that name \
         a column by what it was called no longer find it."
    }

    fn syntax(&self) -> &'static str {
        "ALTER TABLE [IF EXISTS] [schema.]name action [, …]\n\
         where action is ADD [COLUMN] [IF NOT EXISTS] column type [NOT NULL] [DEFAULT value] [CHECK (condition)] |\n\
         DROP [COLUMN] [IF EXISTS] column | RENAME [COLUMN] column TO new_name |\n\
         ALTER [COLUMN] column { [SET DATA] TYPE type [USING expression] | SET DEFAULT value | DROP DEFAULT |\n\
         SET NOT NULL | DROP NOT NULL } |\n\
         ADD [CONSTRAINT constraint] CHECK (condition) | DROP CONSTRAINT [IF EXISTS] constraint"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !at_words(parser, &["ALTER", "TABLE"]) {
            return Ok(None);
        }
        let _ = take_words(parser, &["ALTER", "TABLE"]);
        let if_exists = take_words(parser, &["IF", "EXISTS"]);
        take_words(parser, &["ONLY"]);
        let table = relation(parser)?;
        let mut operations = Vec::new();
        loop {
            operations.push(parser.parse_alter_table_operation().map_err(syntax)?);
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        Ok(Some(Arc::new(AlterTable { table, if_exists, operations })))
    }
}

#[async_trait]
impl Own for AlterTable {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        const TAG: &str = "ALTER TABLE";
        session.may_write(TAG)?;
        let (table, relation) = match the_table(session, &self.table, "alter") {
            Err(error) if self.if_exists && error.kind == Kind::UnknownTable => {
                run.notice(format!("{error}, skipping"));
                return Ok(Answer::Done(TAG.to_owned()));
            }
            found => found?,
        };
        session.rights()?.must_own(&relation)?;
        let mut shape = Shape::of(&relation);
        for operation in &self.operations {
            self.apply(&mut shape, operation, session, run).await?;
        }
        shape.validate(session)?;
        let (store, state) = (session.store(), session.context.state());
        let job = Job { store, table, relation, shape };
        session.in_turn(run, |cancel| async move { job.run(&state, &cancel).await }).await?;
        session.audit(TAG, &self.table.to_string());
        Ok(Answer::Done(TAG.to_owned()))
    }
}

impl AlterTable {
    async fn apply(
        &self,
        shape: &mut Shape,
        operation: &AlterTableOperation,
        session: &Session,
        run: &Run,
    ) -> Result<()> {
        match operation {
            AlterTableOperation::AddColumn { if_not_exists, column_def, .. } => {
                let name = folded(&column_def.name);
                if *if_not_exists && shape.has(&name) {
                    run.notice(format!("column \"{name}\" of relation \"{}\" already exists, skipping", shape.table()));
                    return Ok(());
                }
                let (mut nullable, mut default, mut checks) = (true, None, Vec::new());
                for option in &column_def.options {
                    match &option.option {
                        ColumnOption::Null => {}
                        ColumnOption::NotNull => nullable = false,
                        ColumnOption::Default(value) => default = Some(value.to_string()),
                        ColumnOption::Check(check) => {
                            let given = option.name.as_ref().or(check.name.as_ref());
                            checks.push((given.map(folded), check.expr.to_string()));
                        }
                        ColumnOption::PrimaryKey(_) | ColumnOption::Unique(_) | ColumnOption::ForeignKey(_) => {
                            not_enforced(run);
                        }
                        other => return Err(Error::unsupported(format!("{other} is not supported"))),
                    }
                }
                shape.add(session, &name, &column_def.data_type, nullable, default).await?;
                for (given, check) in checks {
                    shape.add_check(given, Some(&name), &check);
                }
                Ok(())
            }
            AlterTableOperation::DropColumn { column_names, if_exists, .. } => {
                for column in column_names {
                    let name = folded(column);
                    if *if_exists && !shape.has(&name) {
                        let table = shape.table();
                        run.notice(format!("column \"{name}\" of relation \"{table}\" does not exist, skipping"));
                        continue;
                    }
                    shape.drop_column(&name)?;
                }
                Ok(())
            }
            AlterTableOperation::RenameColumn { old_column_name, new_column_name } => {
                shape.rename(&folded(old_column_name), &folded(new_column_name))
            }
            AlterTableOperation::AlterColumn { column_name, op } => {
                let name = folded(column_name);
                match op {
                    AlterColumnOperation::SetNotNull => shape.set_nullable(&name, false),
                    AlterColumnOperation::DropNotNull => shape.set_nullable(&name, true),
                    AlterColumnOperation::SetDefault { value } => shape.set_default(&name, Some(value.to_string())),
                    AlterColumnOperation::DropDefault => shape.set_default(&name, None),
                    AlterColumnOperation::SetDataType { data_type, using, .. } => {
                        shape.set_type(session, &name, data_type, using.as_ref())
                    }
                    other => Err(Error::unsupported(format!("ALTER COLUMN {other} is not supported"))),
                }
            }
            AlterTableOperation::AddConstraint { constraint: TableConstraint::Check(check), .. } => {
                shape.add_check(check.name.as_ref().map(folded), None, &check.expr.to_string());
                Ok(())
            }
            AlterTableOperation::AddConstraint { .. } => {
                not_enforced(run);
                Ok(())
            }
            AlterTableOperation::DropConstraint { if_exists, name, .. } => {
                let name = folded(name);
                if !shape.drop_check(&name) {
                    let message = format!("constraint \"{name}\" of relation \"{}\" does not exist", shape.table());
                    if !if_exists {
                        return Err(Error::new(Kind::UnknownObject, message));
                    }
                    run.notice(format!("{message}, skipping"));
                }
                Ok(())
            }
            other => Err(Error::unsupported(format!("ALTER TABLE … {other} is not supported"))),
        }
    }
}

fn not_enforced(run: &Run) {
    run.warning(
        "PRIMARY KEY, UNIQUE and FOREIGN KEY are not enforced",
        "check with SELECT key, count(*) … GROUP BY key HAVING count(*) > 1",
    );
}

/// The rows that are there, on their way into the new shape.
struct Job {
    store: Arc<Store>,
    table: TableId,
    relation: Relation,
    shape: Shape,
}

impl Job {
    async fn run(self, state: &SessionState, cancel: &CancellationToken) -> Result<()> {
        let Self { store, table, relation, shape } = self;
        let becomes = Definition { from: relation.version, ..shape.definition() };
        let new = Relation { columns: Arc::clone(&becomes.columns), rules: becomes.rules.clone(), ..relation.clone() };
        let checks = crate::engine::rules::checks(state, &new)?;
        let mut writer = store.writer_for(&new)?.with_checks(checks);
        let replaces = match shape.changes_values() {
            false if !shape.asks_more() => Replaces::Nothing,
            changes => {
                let filler = Filler::new(&shape, state, &relation.columns)?;
                let lake = LakeTable::new(Arc::clone(&store), relation)?;
                let mut rows = lake.rows_in_order(state, state.task_ctx()).await?;
                while let Some(batch) = rows.try_next().await? {
                    if cancel.is_cancelled() {
                        return Err(Error::cancelled());
                    }
                    let batch = filler.fill(&batch)?;
                    match changes {
                        true => writer.write(&batch)?,
                        false => writer.verify(&batch)?,
                    }
                }
                if changes { Replaces::Everything } else { Replaces::Nothing }
            }
        };
        let change = Change { becomes: Some(becomes), ..Change::of_rows(table, "ALTER TABLE", replaces) };
        not_in_the_way(|| store.change(change, writer))
    }
}
