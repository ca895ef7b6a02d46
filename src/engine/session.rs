//! One connection's view of the engine: parse, prepare, execute.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef, UInt64Type};
use datafusion::common::ScalarValue;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{DdlStatement, DmlStatement, LogicalPlan, WriteOp};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as Sql;
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast;
use futures::{Stream, StreamExt, stream};

use crate::engine::activity::{Entered, shown};
use crate::engine::again::{self, Again};
use crate::engine::block::Block;
use crate::engine::cursors::Cursors;
use crate::engine::files::reads_files;
use crate::engine::headings::Headings;
use crate::engine::identity::Identity;
use crate::engine::login::Place;
use crate::engine::opaque::Opaque;
use crate::engine::rights::Rights;
use crate::engine::row_changes::RowChange;
use crate::engine::settings::Settings;
use crate::engine::shares::Part;
use crate::engine::sight::Sight;
use crate::engine::spare::Spare;
use crate::engine::statement::{Own, Parsed};
use crate::engine::suggestions::with_suggestion;
use crate::engine::temporary::{AtCommit, Temporary};
use crate::engine::{
    Answer, Engine, Rows, Run, Statement, Transaction, definitions, explain, headings, parameters, pg_catalog,
    pg_functions, rules, statement, temporary,
};
use crate::error::{Error, Kind, Result};
use crate::storage::{RelationKind, Role, RoleId, Rules, Store};

/// One connection.
pub struct Session {
    inside: Opaque<Inside>,
}

/// What a session consists of.
pub struct Inside {
    pub(super) engine: Arc<Engine>,
    /// What it sees of the data.
    pub(super) sight: Mutex<Arc<Sight>>,
    pub(super) context: SessionContext,
    identity: Mutex<Identity>,
    pub(super) settings: Arc<Mutex<Settings>>,
    pub(super) block: Mutex<Block>,
    pub(super) cursors: Arc<Cursors>,
    pub(super) spare: Arc<Spare>,
    /// What PREPARE has given names to.
    pub(super) prepared: Mutex<BTreeMap<String, Prepared>>,
    /// What messages have given names to.
    lent: Mutex<BTreeMap<String, Prepared>>,
    pub(super) temporary: Mutex<Temporary>,
    _place: Place,
    /// What it has of its role's share of the server.
    pub(super) part: Part,
    /// Its place among those that others see; `None`: there is no client behind it.
    pub(super) entered: Mutex<Option<Entered>>,
    /// The text that was parsed last: what a statement that is prepared next was written in.
    text: Mutex<Arc<str>>,
}

/// A statement with its names and types resolved.
#[derive(Debug, Clone)]
pub struct Prepared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What others see of it while it runs.
    text: Arc<str>,
    work: Work,
    columns: Option<SchemaRef>,
    parameters: Vec<DataType>,
}

#[derive(Debug)]
enum Work {
    Own(Arc<dyn Own>),
    Plan(Box<Planned>),
}

#[derive(Debug)]
struct Planned {
    plan: LogicalPlan,
    /// The query of a CREATE VIEW as it was written.
    view: Option<String>,
    /// The plan is a query that says which rows change, and how.
    change: Option<RowChange>,
    /// Of the table that the plan creates.
    rules: Rules,
    /// What becomes of that table when it is temporary.
    temporary: Option<AtCommit>,
    /// What was planned, to be planned anew once the store has moved on: a plan reads the state that it was made for.
    sql: Sql,
    generation: u64,
    /// Where its tables write to.
    store: Arc<Store>,
    /// Whose rights it was checked against.
    role: RoleId,
    /// What was made of the plan when it ran, if that may be used again.
    again: Option<Arc<Again>>,
}

impl Prepared {
    /// The columns of its rows; `None`: it returns no rows.
    pub fn columns(&self) -> Option<&SchemaRef> {
        self.0.columns.as_ref()
    }

    /// The columns of its rows as they are now: those of a FETCH are its cursor's.
    pub fn columns_in(&self, session: &Session) -> Option<SchemaRef> {
        match &self.0.work {
            Work::Own(own) => own.columns_in(session),
            Work::Plan(_) => self.0.columns.clone(),
        }
    }

    /// The rows under the names that were promised.
    fn named(&self, mut rows: Rows) -> Rows {
        rows.schema = named_as(&rows.schema, self.columns());
        rows
    }

    /// Whether it cannot run in a transaction.
    pub fn runs_alone(&self) -> bool {
        matches!(&self.0.work, Work::Own(own) if own.runs_alone())
    }

    /// The types of $1, $2, …
    pub fn parameters(&self) -> &[DataType] {
        &self.0.parameters
    }
}

impl Session {
    pub(super) fn new(engine: Arc<Engine>, role: &Role) -> Result<Self> {
        let place = Place::take(&engine.connected, role)?;
        let part = Part::new(&engine.shares, role, engine.base.runtime_env());
        let runtime = part.runtime(engine.base.runtime_env());
        let state = SessionStateBuilder::new_from_existing(engine.base.clone()).with_runtime_env(runtime).build();
        let name: Arc<str> = Arc::from(role.name.as_str());
        let identity = Identity {
            session: Arc::clone(&name),
            current: name,
            session_role: role.id,
            current_role: role.id,
            backend_pid: 0,
        };
        let least = engine.log_min_duration.map(|least| format!("{}ms", least.as_millis()));
        let settings = Settings::new(&role.name, role.superuser).with_default("log_min_duration_statement", least);
        let inside = Inside {
            sight: Mutex::new(Arc::clone(&engine.sight)),
            engine,
            context: SessionContext::new_with_state(state),
            settings: Arc::new(Mutex::new(settings)),
            identity: Mutex::new(identity.clone()),
            block: Mutex::default(),
            cursors: Arc::default(),
            spare: Arc::default(),
            prepared: Mutex::default(),
            lent: Mutex::default(),
            temporary: Mutex::default(),
            _place: place,
            part,
            entered: Mutex::default(),
            text: Mutex::new(Arc::from("")),
        };
        let session = Self { inside: Opaque::new(inside) };
        identity.store(&session.context);
        pg_functions::register_settings(&session.context, &session.settings);
        Ok(session)
    }

    pub(super) fn sight(&self) -> Arc<Sight> {
        Arc::clone(&lock(&self.sight))
    }

    pub(super) fn store(&self) -> Arc<Store> {
        Arc::clone(&lock(&self.sight).store)
    }

    /// From here on names are looked up as `state` does it. What was set stays set.
    pub(super) fn look_through(&self, state: SessionState) {
        let shared = self.context.state_ref();
        let mut config = shared.read().config().clone();
        // Not the same options in memory: a spare state that comes back late is one that looks elsewhere.
        let _ = config.options_mut();
        let runtime = self.part.runtime(state.runtime_env());
        let state = SessionStateBuilder::new_from_existing(state).with_config(config).with_runtime_env(runtime);
        *shared.write() = state.build();
        pg_functions::register_settings(&self.context, &self.settings);
        self.spare.forget();
    }

    /// Who the session is now.
    pub(super) fn identity(&self) -> Identity {
        lock(&self.identity).clone()
    }

    /// From here on the session is that.
    pub(super) fn set_identity(&self, identity: Identity) {
        let acts_as_itself = identity.current_role == identity.session_role;
        let access = self.store().access();
        let is_superuser = access.role(identity.current_role).is_some_and(|role| role.superuser);
        let mut settings = lock(&self.settings);
        settings.set_fact("is_superuser", if is_superuser { "on" } else { "off" });
        settings.set_fact("role", if acts_as_itself { "none" } else { &identity.current });
        identity.clone().store(&self.context);
        *lock(&self.identity) = identity;
    }

    /// What the session may do.
    pub(super) fn rights(&self) -> Result<Rights> {
        let sight = self.sight();
        Rights::of(&sight.store, &sight.planner, self.identity().current_role)
    }

    /// A line in the audit log: who did what.
    pub(super) fn audit(&self, what: &str, object: &str) {
        let Identity { session, current, backend_pid, .. } = self.identity();
        tracing::info!(target: "audit", user = %session, role = %current, pid = backend_pid, object, "{what}");
    }

    pub fn parse(&self, sql: &str) -> Result<Vec<Statement>> {
        *lock(&self.text) = shown(sql);
        statement::parse(sql)
    }

    /// Resolves names and types. `parameter_types` are those the client declared, in order.
    pub async fn prepare(&self, statement: Statement, parameter_types: &[Option<DataType>]) -> Result<Prepared> {
        let text = Arc::clone(&lock(&self.text));
        self.note_active(&text);
        let mut sql = match statement.0 {
            Parsed::Own(own) => {
                let columns = own.columns();
                let parameters = own.parameters(self, parameter_types).await?;
                return Ok(Prepared(Arc::new(Inner { text, work: Work::Own(own), columns, parameters })));
            }
            Parsed::Sql(sql) => sql,
        };
        if self.transaction() == Transaction::Failed {
            return Err(failed_block());
        }
        self.enter(&sql)?;
        refuse(&sql)?;
        let rules = rules::take(&mut sql)?;
        let temporary = temporary::take(&mut sql);
        self.spell_temporary(&mut sql);
        let view = view_query(&sql);
        let change = RowChange::of(self, &mut sql)?;
        let headings = headings(&mut sql);
        let store = self.store();
        let generation = store.generation();
        let (plan, parameters, columns) =
            self.plan((*sql).clone(), parameter_types.to_vec(), change.as_ref(), &Run::new().0).await?;
        let columns = columns.map(|columns| headings.over(columns));
        let columns = match &change {
            Some(change) => change.returned(columns),
            None => columns,
        };
        let role = self.identity().current_role;
        let again = Again::of(&plan);
        let work = Work::Plan(Box::new(Planned {
            plan,
            view,
            change,
            rules,
            temporary,
            sql: *sql,
            generation,
            store,
            role,
            again,
        }));
        Ok(Prepared(Arc::new(Inner { text, work, columns, parameters })))
    }

    /// A statement begins. Outside of a block there is nothing to be asked.
    fn enter(&self, sql: &Sql) -> Result<()> {
        if self.in_block() && !self.adds_on(sql) { self.enter_statement() } else { Ok(()) }
    }

    /// Whether a statement adds rows that are written in it to a table that its transaction has changed already. It need not
    /// see what others have committed since, which may take long.
    fn adds_on(&self, sql: &Sql) -> bool {
        let Some(name) = only_adds_to(sql) else { return false };
        let Ok(name) = object_name_to_table_reference(name.clone(), true) else { return false };
        let name = definitions::resolve(self, &name);
        let store = self.store();
        let relation = store.relation(&name.schema, &name.table).ok().flatten();
        relation.is_some_and(|relation| matches!(relation.kind, RelationKind::Table(table) if store.has_changed(table)))
    }

    /// The plan of a statement as the session may run it, the types of its parameters and its columns.
    ///
    /// Planning can take long and go deep, so it has no place on the threads that serve sockets.
    async fn plan(
        &self,
        sql: Sql,
        declared: Vec<Option<DataType>>,
        change: Option<&RowChange>,
        run: &Run,
    ) -> Result<(LogicalPlan, Vec<DataType>, Option<SchemaRef>)> {
        let ((state, home), mut rights) = (self.spare_state(), self.rights()?);
        if let Some(change) = change {
            rights = rights.changing(change.reads_for());
        }
        let planning = async move {
            let (plan, parameters) = parameters::plan(&state, sql, &declared).await?;
            let plan = pg_catalog::shown(rights.checked(plan)?, &state)?;
            let columns = columns(&state, &plan)?;
            home.take_back(state);
            Ok((plan, parameters, columns))
        };
        let planned = self.on_quick_threads(run, planning).await;
        planned.map_err(|error| with_suggestion(error, self, &self.context.state()))
    }

    /// Runs a prepared statement with its parameters.
    pub async fn execute(&self, prepared: &Prepared, parameters: Vec<ScalarValue>, run: &Run) -> Result<Answer> {
        self.note_run(&prepared.0.text, run);
        let planned = match &prepared.0.work {
            Work::Own(own) => {
                if self.transaction() == Transaction::Failed && !own.ends_failure() {
                    return Err(failed_block());
                }
                if !own.ends_failure() {
                    self.enter_statement()?;
                }
                return match own.bind(&parameters)? {
                    Some(bound) => bound.run(self, run).await,
                    None => own.run(self, run).await,
                };
            }
            Work::Plan(planned) => {
                if self.transaction() == Transaction::Failed {
                    return Err(failed_block());
                }
                self.enter(&planned.sql)?;
                planned
            }
        };
        if let Some(change) = &planned.change {
            return self.try_change(prepared, planned, change, parameters, run).await;
        }
        if let Some(again) = &planned.again
            && let Some(plan) = self.kept_plan(planned)
        {
            let again = again::Run { again: Arc::clone(again), values: parameters };
            return Ok(Answer::Rows(prepared.named(self.rows_again(plan, Some(again), run).await?), "SELECT"));
        }
        let plan = with_values(self.current_plan(prepared, planned, run).await?, parameters)?;
        let view = &planned.view;
        match plan {
            LogicalPlan::Ddl(definition) => {
                self.may_write(&definitions::spoken(definition.name()).replace("MEMORY ", "").replace("CATALOG ", ""))?;
                definitions::run(self, definition, view.as_deref(), (&planned.rules, planned.temporary), run).await
            }
            LogicalPlan::Dml(write) => Ok(Answer::Done(format!("INSERT 0 {}", self.write(write, run).await?))),
            LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => {
                Ok(Answer::Rows(explain::readable(self.rows(plan, run).await?), "EXPLAIN"))
            }
            plan => Ok(Answer::Rows(prepared.named(self.rows(plan, run).await?), "SELECT")),
        }
    }

    /// Changes rows, and begins again where somebody else was faster.
    async fn try_change(
        &self,
        prepared: &Prepared,
        planned: &Planned,
        change: &RowChange,
        parameters: Vec<ScalarValue>,
        run: &Run,
    ) -> Result<Answer> {
        self.may_write(change.word())?;
        change.check_rights(self)?;
        let mut tries = 1;
        loop {
            let plan = with_values(self.current_plan(prepared, planned, run).await?, parameters.clone())?;
            match self.change_rows(change, plan, prepared.columns(), run).await {
                Err(error) if error.kind == Kind::Conflict && tries < MOST_TRIES => tries += 1,
                done => return done,
            }
        }
    }

    /// The plan as it was prepared, if it would be the same now.
    fn kept_plan(&self, planned: &Planned) -> Option<LogicalPlan> {
        let store = self.store();
        let same = planned.generation == store.generation() && Arc::ptr_eq(&planned.store, &store);
        let same = same && planned.role == self.identity().current_role && !reads_files(&planned.sql);
        same.then(|| planned.plan.clone())
    }

    /// The plan as the store is now: made anew if something was committed since, or somebody else asks. What it returns stays what it was.
    async fn current_plan(&self, prepared: &Prepared, planned: &Planned, run: &Run) -> Result<LogicalPlan> {
        if let Some(plan) = self.kept_plan(planned) {
            return Ok(plan);
        }
        let declared = prepared.parameters().iter().cloned().map(Some).collect();
        let (plan, _, columns) = self.plan(planned.sql.clone(), declared, planned.change.as_ref(), run).await?;
        let columns = match &planned.change {
            Some(change) => change.returned(columns),
            None => columns,
        };
        let types = |columns: Option<&SchemaRef>| {
            columns.map(|columns| columns.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>())
        };
        if types(columns.as_ref()) != types(prepared.columns()) {
            return Err(Error::unsupported("cached plan must not change result type")
                .hint("what the statement reads was changed: prepare it again"));
        }
        Ok(plan)
    }

    /// INSERT: runs to its end, and counts.
    pub(super) async fn write(&self, write: DmlStatement, run: &Run) -> Result<u64> {
        let WriteOp::Insert(_) = &write.op else {
            return Err(Error::unsupported(format!("{} is not supported yet", write.op.name().to_uppercase()))
                .hint("write the rows you want to keep into a new table: CREATE OR REPLACE TABLE t AS SELECT …"));
        };
        self.may_write("INSERT")?;
        definitions::check_insert(self, &write.table_name)?;
        let (state, into) = (self.context.state(), write.table_name.clone());
        let count = self.in_turn(run, |cancel| async move {
            let mut stream = Self::stream(state, LogicalPlan::Dml(write), &cancel).await?;
            let mut count = 0;
            while let Some(batch) = stream.next().await {
                let batch = batch?;
                let counts = batch.column(0).as_primitive_opt::<UInt64Type>();
                count += counts.map_or(0, |counts| counts.iter().flatten().sum::<u64>());
            }
            Ok(count)
        });
        let count = count.await?;
        if let Ok((table, _)) = definitions::the_table(self, &into, "insert into") {
            self.engine.tidy(table);
        }
        Ok(count)
    }

    pub fn setting(&self, name: &str) -> Option<String> {
        lock(&self.settings).get(name)
    }

    /// Sets a setting as SET does.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        lock(&self.settings).set(name, Some(value), &self.context)
    }

    /// Settings that clients follow: name and value.
    pub fn reported_settings(&self) -> Vec<(&'static str, String)> {
        lock(&self.settings).reported()
    }

    /// Those of them that changed since the last call.
    pub fn take_changed_settings(&self) -> Vec<(&'static str, String)> {
        lock(&self.settings).take_changed()
    }

    /// The columns of a cursor, and whether they are sent in binary.
    pub fn cursor(&self, name: &str) -> Option<(SchemaRef, bool)> {
        self.cursors.columns(name)
    }

    /// Closes a cursor, if there is one of that name.
    pub fn close_cursor(&self, name: &str) {
        self.cursors.close(name);
    }

    /// What PREPARE gave this name to.
    pub fn named_statement(&self, name: &str) -> Option<Prepared> {
        lock(&self.prepared).get(name).cloned()
    }

    /// EXECUTE runs what was prepared by message, too: what those names stand for, as long as that is so.
    pub fn lend(&self, name: &str, prepared: &Prepared) {
        // One EXECUTE that runs another could come to itself, and never end.
        if !matches!(&prepared.0.work, Work::Own(own) if own.executes()) {
            lock(&self.lent).insert(name.to_owned(), prepared.clone());
        }
    }

    pub fn take_back(&self, name: &str) {
        lock(&self.lent).remove(name);
    }

    /// What EXECUTE means by a name.
    pub(super) fn executed_statement(&self, name: &str) -> Option<Prepared> {
        self.named_statement(name).or_else(|| lock(&self.lent).get(name).cloned())
    }

    pub fn statement_timeout(&self) -> Option<Duration> {
        lock(&self.settings).timeout("statement_timeout")
    }

    /// How long its client may say nothing from now on, and what it is told when it has; `None`: as long as it likes.
    pub fn idle_timeout(&self) -> Option<(Duration, Error)> {
        let (name, kind, what) = match self.transaction() {
            Transaction::Idle => ("idle_session_timeout", Kind::IdleSession, "idle-session"),
            _ => ("idle_in_transaction_session_timeout", Kind::IdleTransaction, "idle-in-transaction"),
        };
        let timeout = lock(&self.settings).timeout(name)?;
        Some((timeout, Error::new(kind, format!("terminating connection due to {what} timeout"))))
    }

    /// Logs what has run, if it took too long.
    pub fn note_duration(&self, took: Duration) {
        if lock(&self.settings).log_min_duration().is_none_or(|least| took < least) {
            return;
        }
        let Identity { session, backend_pid, .. } = self.identity();
        let (ms, statement) = (took.as_millis(), self.noted_query());
        tracing::info!(target: "slow", user = %session, pid = backend_pid, ms, %statement, "a statement took long");
    }
}

impl Deref for Session {
    type Target = Inside;

    fn deref(&self) -> &Inside {
        &self.inside
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let sight = self.sight();
        if !Arc::ptr_eq(&sight, &self.engine.sight) {
            sight.close();
        }
        if let Err(error) = self.drop_temporary() {
            tracing::warn!(%error, "temporary tables could not be dropped; the next start will");
        }
    }
}

/// So often a change of rows is begun that others keep changing too.
const MOST_TRIES: usize = 10;

fn with_values(plan: LogicalPlan, parameters: Vec<ScalarValue>) -> Result<LogicalPlan> {
    if parameters.is_empty() { Ok(plan) } else { Ok(plan.with_param_values(parameters)?) }
}

/// A lock whose holder panicked still guards good data: every change under it is one assignment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn failed_block() -> Error {
    Error::new(
        Kind::FailedTransaction,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

/// The table that a statement adds rows to, if all that they are is written in it.
fn only_adds_to(sql: &Sql) -> Option<&ast::ObjectName> {
    let Sql::Statement(statement) = sql else { return None };
    let ast::Statement::Insert(insert) = statement.as_ref() else { return None };
    let ast::SetExpr::Values(values) = insert.source.as_ref()?.body.as_ref() else { return None };
    let is_plain = |value: &ast::Expr| match value {
        ast::Expr::UnaryOp { expr, .. } => matches!(expr.as_ref(), ast::Expr::Value(_)),
        value => matches!(value, ast::Expr::Value(_)),
    };
    let ast::TableObject::TableName(name) = &insert.table else { return None };
    values.rows.iter().all(|row| row.content.iter().all(is_plain)).then_some(name)
}

/// Statements that DataFusion would run, and that a server must not.
fn refuse(sql: &Sql) -> Result<()> {
    match sql {
        // Ours is parsed before, and knows what it may write.
        Sql::CopyTo(_) => Err(Error::unsupported("this form of COPY is not supported")),
        // Ours are parsed before: see the statement of that name.
        Sql::CreateExternalTable(_) => Err(Error::unsupported("CREATE UNBOUNDED EXTERNAL TABLE is not supported")
            .hint("leave out UNBOUNDED: every query reads the files as they are then")),
        Sql::Explain(explain) => refuse(&explain.statement),
        _ => Ok(()),
    }
}

/// The headings of a query; other statements have none.
fn headings(sql: &mut Sql) -> Headings {
    match sql {
        Sql::Statement(statement) => match statement.as_mut() {
            ast::Statement::Query(query) => {
                let headings = Headings::of(query);
                headings::tell_apart(query.as_mut(), 1);
                headings
            }
            // What an INSERT reads goes by its places.
            insert @ ast::Statement::Insert(_) => {
                headings::tell_apart(insert, 1);
                Headings::default()
            }
            other => {
                headings::tell_apart(other, 2);
                Headings::default()
            }
        },
        _ => Headings::default(),
    }
}

/// The columns under the names that were promised.
fn named_as(columns: &SchemaRef, promised: Option<&SchemaRef>) -> SchemaRef {
    let Some(promised) = promised.filter(|promised| promised.fields().len() == columns.fields().len()) else {
        return Arc::clone(columns);
    };
    let names = promised.fields().iter().map(|field| field.name());
    let fields = columns.fields().iter().zip(names).map(|(field, name)| field.as_ref().clone().with_name(name));
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), columns.metadata().clone()))
}

/// The query of a CREATE VIEW, with its columns renamed if a list was given.
fn view_query(sql: &Sql) -> Option<String> {
    let Sql::Statement(statement) = sql else { return None };
    let ast::Statement::CreateView(view) = statement.as_ref() else { return None };
    if view.columns.is_empty() {
        return Some(view.query.to_string());
    }
    let columns: Vec<String> = view.columns.iter().map(|column| column.name.to_string()).collect();
    Some(format!("SELECT * FROM ({}) AS renamed({})", view.query, columns.join(", ")))
}

/// The columns of the plan's rows as they will come: types coerced as the analyzer does it.
fn columns(state: &SessionState, plan: &LogicalPlan) -> Result<Option<SchemaRef>> {
    match plan {
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(_)) | LogicalPlan::Ddl(_) | LogicalPlan::Dml(_) => Ok(None),
        LogicalPlan::Statement(_) | LogicalPlan::Copy(_) => {
            let what = match plan {
                LogicalPlan::Statement(statement) => definitions::spoken(statement.name()),
                _ => "COPY".to_owned(),
            };
            Err(Error::unsupported(format!("{what} is not supported")))
        }
        plan => {
            let analyzed = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {});
            let plan = analyzed.as_ref().unwrap_or(plan);
            Ok(Some(Arc::clone(plan.schema().inner())))
        }
    }
}

/// Rows that are there already.
pub(super) fn ready(batch: datafusion::arrow::record_batch::RecordBatch) -> Rows {
    Rows::of(batch.schema(), stream::iter([Ok(batch)]))
}

const _: fn() = || {
    fn is_stream<T: Stream + Send>() {}
    fn is_shared<T: Send + Sync>() {}
    is_stream::<Rows>();
    is_shared::<Session>();
};
