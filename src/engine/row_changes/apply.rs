//! Carries a change out: collects what its query says, writes the files anew that have such rows, and commits.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array};
use datafusion::arrow::compute::{
    SortColumn, cast, concat_batches, filter_record_batch, interleave, lexsort_to_indices, sort_to_indices,
    take_record_batch,
};
use datafusion::arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use futures::{StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::{Action, RowChange, What, current, read_by};
use crate::engine::policies::{Demand, RowPolicies};
use crate::engine::{Answer, Rows, Run, Session, rules};
use crate::error::{Error, Kind, Result};
use crate::storage::{
    Change, ChangedRows, DataFile, LakeTable, PolicyCommand, ROW_BITS, Relation, RelationKind, Replaces, Store,
    TableId, TableWriter,
};

/// What a change has come to.
struct Outcome {
    rows: ChangedRows,
    returned: Option<RecordBatch>,
}

impl Session {
    /// Runs a change whose query is `plan`, already checked. Fails with [`Kind::Conflict`] where somebody else was faster.
    pub(in crate::engine) async fn change_rows(
        &self,
        change: &RowChange,
        plan: LogicalPlan,
        columns: Option<&SchemaRef>,
        run: &Run,
    ) -> Result<Answer> {
        let store = self.store();
        let relation = match read_by(&plan)? {
            Some(relation) => relation,
            None => current(&store, change)?,
        };
        let state = self.context.state();
        let policies = RowPolicies::of(self.rights()?, &relation);
        let (spec, word) = (change.clone(), change.word());
        let outcome = self
            .in_turn(run, |cancel| async move {
                let job = Job { store, relation, policies, state, cancel };
                match spec.what {
                    What::Insert => job.insert(&spec, plan).await,
                    _ => job.rewrite(&spec, plan).await,
                }
            })
            .await?;
        let ChangedRows { inserted, updated, deleted } = outcome.rows;
        match (outcome.returned, columns) {
            (Some(batch), Some(columns)) => {
                let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                let batch = RecordBatch::try_new_with_options(Arc::clone(columns), batch.columns().to_vec(), &options)?;
                Ok(Answer::Rows(Rows::of(Arc::clone(columns), stream::iter([Ok(batch)])), word))
            }
            _ if word == "INSERT" => Ok(Answer::Done(format!("INSERT 0 {inserted}"))),
            _ => Ok(Answer::Done(format!("{word} {}", inserted + updated + deleted))),
        }
    }
}

/// A change that is under way.
struct Job {
    store: Arc<Store>,
    /// The state that is changed.
    relation: Relation,
    /// Those that its rows must satisfy.
    policies: Option<RowPolicies>,
    state: SessionState,
    cancel: CancellationToken,
}

impl Job {
    /// INSERT: rows go to the writer as they come; what is returned is kept.
    async fn insert(&self, spec: &RowChange, plan: LogicalPlan) -> Result<Outcome> {
        let columns = Arc::clone(&self.relation.columns);
        let n = columns.fields().len();
        let mut reserved = self.reservation(spec);
        let mut writer = self.writer()?;
        let mut rows = Session::stream(self.state.clone(), plan, &self.cancel).await?;
        let schema = rows.schema();
        let returned_schema = Arc::new(Schema::new(schema.fields()[n..].to_vec()));
        let mut returned = Vec::new();
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            let rows = part(&batch, 0..n, &columns)?;
            self.demand(&rows, self.of_inserted(spec)).await?;
            writer.write(&rows)?;
            if spec.returning.is_none() {
                continue;
            }
            let kept = part(&batch, n..batch.num_columns(), &returned_schema)?;
            grow(&mut reserved, spec, kept.get_array_memory_size())?;
            returned.push(kept);
        }
        let rows = ChangedRows { inserted: writer.rows(), ..ChangedRows::default() };
        self.commit(spec, Replaces::Nothing, rows, writer)?;
        let returned = spec.returning.map(|_| concat_batches(&returned_schema, &returned));
        Ok(Outcome { rows, returned: returned.transpose()? })
    }

    /// All others: what the query says is collected, then the files with such rows are written anew.
    async fn rewrite(&self, spec: &RowChange, plan: LogicalPlan) -> Result<Outcome> {
        let mut reserved = self.reservation(spec);
        let mut stream = Session::stream(self.state.clone(), plan, &self.cancel).await?;
        let schema = stream.schema();
        let mut batches = Vec::new();
        while let Some(batch) = stream.try_next().await? {
            // Once as it came and once in order.
            grow(&mut reserved, spec, 2 * batch.get_array_memory_size())?;
            batches.push(batch);
        }
        let said = concat_batches(&schema, &batches)?;
        drop(batches);
        let (mut said, added) = match spec.what {
            What::Merge => parted(said)?,
            _ => (said, None),
        };
        said = in_order(said, spec)?;
        let patch = Patch::new(&said, spec, &self.relation)?;
        let mut writer = self.writer()?;
        let mut files = Vec::new();
        for (at, file) in self.relation.files.iter().enumerate() {
            if patch.touches(at) {
                self.write_anew(at, file, &patch, spec, &mut writer).await?;
                files.push(file.clone());
            }
        }
        let n_added = added.as_ref().map_or(0, RecordBatch::num_rows) as u64;
        if let Some(added) = &added {
            let columns = &self.relation.columns;
            let added = part(added, 2..2 + columns.fields().len(), columns)?;
            self.demand(&added, self.of_inserted(spec)).await?;
            writer.write(&added)?;
        }
        let rows = ChangedRows { inserted: n_added, ..patch.counted };
        self.commit(spec, Replaces::Files(files), rows, writer)?;
        let returned = spec.returning.map(|from| {
            let columns = Arc::new(Schema::new(said.schema().fields()[from..].to_vec()));
            let of = |rows: &RecordBatch| part(rows, from..rows.num_columns(), &columns);
            let returned = [Some(&said), added.as_ref()].into_iter().flatten().map(of).collect::<Result<Vec<_>>>()?;
            Ok::<_, Error>(concat_batches(&returned[0].schema(), &returned)?)
        });
        Ok(Outcome { rows, returned: returned.transpose()? })
    }

    async fn write_anew(
        &self,
        at: usize,
        file: &DataFile,
        patch: &Patch,
        spec: &RowChange,
        writer: &mut TableWriter,
    ) -> Result<()> {
        let alone = Relation { files: Arc::from([file.clone()]), ..self.relation.clone() };
        let table = LakeTable::new(Arc::clone(&self.store), alone)?;
        let context = self.state.task_ctx();
        let mut rows = table.rows_in_order(&self.state, context).await?;
        let mut next = (at as i64) << ROW_BITS;
        while let Some(batch) = rows.try_next().await? {
            if self.cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            let patched = patch.apply(&batch, next)?;
            if self.policies.is_some() {
                self.hold(&batch, &patched, spec).await?;
            }
            next += batch.num_rows() as i64;
            writer.write(&patched.left()?)?;
        }
        Ok(())
    }

    /// Holds changed rows to the policies. UPDATE and DELETE have found only rows that they may change.
    async fn hold(&self, before: &RecordBatch, after: &Patched, spec: &RowChange) -> Result<()> {
        use Demand::{New, There};
        use PolicyCommand::{Delete, Select, Update};
        if let What::Merge = spec.what {
            self.demand(&after.those(Fate::Deleted, before)?, &[There(Delete)]).await?;
            self.demand(&after.those(Fate::Updated, before)?, &[There(Update)]).await?;
        }
        self.demand(&after.those(Fate::Updated, &after.rows)?, &[New(Update), New(Select)]).await
    }

    /// Rows that are returned are read.
    fn of_inserted(&self, spec: &RowChange) -> &'static [Demand] {
        match spec.returning {
            Some(_) => &[Demand::New(PolicyCommand::Insert), Demand::New(PolicyCommand::Select)],
            None => &[Demand::New(PolicyCommand::Insert)],
        }
    }

    async fn demand(&self, rows: &RecordBatch, demands: &[Demand]) -> Result<()> {
        let Some(policies) = &self.policies else { return Ok(()) };
        for demand in demands {
            policies.check(&self.state, rows, *demand, &self.cancel).await?;
        }
        Ok(())
    }

    fn writer(&self) -> Result<TableWriter> {
        let checks = rules::checks(&self.state, &self.relation)?;
        Ok(self.store.writer_for(&self.relation)?.with_checks(checks))
    }

    /// There is no waiting from here to the answer: a change that is cancelled has committed nothing.
    fn commit(&self, spec: &RowChange, replaces: Replaces, rows: ChangedRows, writer: TableWriter) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let table = self.table()?;
        let change = Change { rows, ..Change::of_rows(table, spec.word(), replaces) };
        crate::engine::work::not_in_the_way(|| self.store.change(change, writer))
    }

    fn table(&self) -> Result<TableId> {
        match self.relation.kind {
            RelationKind::Table(table) => Ok(table),
            _ => Err(Error::internal("rows of what is no table were to change")),
        }
    }

    fn reservation(&self, spec: &RowChange) -> MemoryReservation {
        MemoryConsumer::new(spec.word()).register(&self.state.runtime_env().memory_pool)
    }
}

fn grow(reserved: &mut MemoryReservation, spec: &RowChange, bytes: usize) -> Result<()> {
    reserved.try_grow(bytes).map_err(|_| {
        let (word, mib) = (spec.word(), (reserved.size() + bytes) >> 20);
        Error::new(
            Kind::OutOfMemory,
            format!("{word} keeps the changed rows in memory, and {mib} MiB are more than is left"),
        )
        .hint("change fewer rows at a time, or write a new table: CREATE OR REPLACE TABLE t AS SELECT …")
    })
}

/// What is to become of the rows of a table.
struct Patch {
    /// Numbers of rows, ascending.
    rows: Vec<i64>,
    /// Which of them go.
    deleted: Option<BooleanArray>,
    /// For each column of the table its new values, one a row; `None`: it stays.
    values: Vec<Option<ArrayRef>>,
    /// The files that have such rows.
    files: HashSet<usize>,
    counted: ChangedRows,
}

impl Patch {
    fn new(said: &RecordBatch, spec: &RowChange, relation: &Relation) -> Result<Self> {
        let fields = relation.columns.fields();
        let rows: Vec<i64> = numbers(said)?.values().to_vec();
        let value = |at: usize, from: usize| Ok(Some(cast(said.column(from), fields[at].data_type())?));
        let (deleted, values): (_, Vec<Option<ArrayRef>>) = match &spec.what {
            What::Delete => (Some(BooleanArray::from(vec![true; rows.len()])), vec![None; fields.len()]),
            What::Update(columns) => {
                let mut values = vec![None; fields.len()];
                for (n, at) in columns.iter().enumerate() {
                    values[*at] = value(*at, 1 + n)?;
                }
                (None, values)
            }
            What::Merge => {
                let deletes = actions(said)?.iter().map(|action| action == Some(Action::Delete as i64)).collect();
                let values = (0..fields.len()).map(|at| value(at, 2 + at)).collect::<Result<_>>()?;
                (Some(deletes), values)
            }
            What::Insert => return Err(Error::internal("an INSERT changes no rows")),
        };
        let files = rows.iter().map(|row| (row >> ROW_BITS) as usize).collect();
        let gone = deleted.as_ref().map_or(0, BooleanArray::true_count) as u64;
        let counted = ChangedRows { inserted: 0, updated: rows.len() as u64 - gone, deleted: gone };
        Ok(Self { rows, deleted, values, files, counted })
    }

    fn touches(&self, file: usize) -> bool {
        self.files.contains(&file)
    }

    /// The batch, whose first row has the number `first`, and what becomes of its rows.
    fn apply(&self, batch: &RecordBatch, first: i64) -> Result<Patched> {
        let n = batch.num_rows();
        let from = self.rows.partition_point(|row| *row < first);
        let to = self.rows.partition_point(|row| *row < first + n as i64);
        let mut fates = vec![Fate::Stays; n];
        if from == to {
            return Ok(Patched { rows: batch.clone(), fates });
        }
        // (0, i): the old row i; (1, i): the new values of the change i.
        let mut places: Vec<(usize, usize)> = (0..n).map(|row| (0, row)).collect();
        for at in from..to {
            let row = (self.rows[at] - first) as usize;
            places[row] = (1, at);
            let is_deleted = self.deleted.as_ref().is_some_and(|deleted| deleted.value(at));
            fates[row] = if is_deleted { Fate::Deleted } else { Fate::Updated };
        }
        let columns = batch.columns().iter().zip(&self.values).map(|(old, new)| match new {
            Some(new) => Ok(interleave(&[old.as_ref(), new.as_ref()], &places)?),
            None => Ok(Arc::clone(old)),
        });
        // A new value may be NULL where none may be: the writer says so by the column's name.
        let fields = batch.schema_ref().fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(Patched { rows: RecordBatch::try_new(schema, columns.collect::<Result<_>>()?)?, fates })
    }
}

/// What a change does with a row that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    Updated,
    Deleted,
}

/// Rows with their new values, those too that go.
struct Patched {
    rows: RecordBatch,
    fates: Vec<Fate>,
}

impl Patched {
    /// Those of the rows, or of the rows as they were, that have this fate.
    fn those(&self, fate: Fate, of: &RecordBatch) -> Result<RecordBatch> {
        let wanted: BooleanArray = self.fates.iter().map(|of| Some(*of == fate)).collect();
        Ok(filter_record_batch(of, &wanted)?)
    }

    /// What is left after the change.
    fn left(self) -> Result<RecordBatch> {
        if !self.fates.contains(&Fate::Deleted) {
            return Ok(self.rows);
        }
        let stays: BooleanArray = self.fates.iter().map(|fate| Some(*fate != Fate::Deleted)).collect();
        Ok(filter_record_batch(&self.rows, &stays)?)
    }
}

/// What a MERGE says of rows that are there, and the rows that it adds. Rows that it does nothing with are left out.
fn parted(said: RecordBatch) -> Result<(RecordBatch, Option<RecordBatch>)> {
    let actions = actions(&said)?;
    let is = |wanted: &[Action]| -> BooleanArray {
        actions.iter().map(|action| Some(wanted.iter().any(|wanted| action == Some(*wanted as i64)))).collect()
    };
    let there = filter_record_batch(&said, &is(&[Action::Update, Action::Delete]))?;
    let added = filter_record_batch(&said, &is(&[Action::Insert]))?;
    Ok((there, Some(added).filter(|added| added.num_rows() > 0)))
}

fn numbers(said: &RecordBatch) -> Result<&Int64Array> {
    said.column(0).as_primitive_opt::<Int64Type>().ok_or_else(|| Error::internal("a row's number is no number"))
}

fn actions(said: &RecordBatch) -> Result<Int64Array> {
    Ok(cast(said.column(1), &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// By the numbers of the rows, each row once.
fn in_order(said: RecordBatch, spec: &RowChange) -> Result<RecordBatch> {
    let sorted = take_record_batch(&said, &sort_to_indices(said.column(0), None, None)?)?;
    let rows = numbers(&sorted)?.values();
    if rows.windows(2).all(|pair| pair[0] != pair[1]) {
        return Ok(sorted);
    }
    if let What::Merge = spec.what {
        return Err(Error::new(Kind::TooManyRows, "MERGE command cannot affect row a second time")
            .hint("more than one row of the source matches a row of the table: join on a key that is unique there"));
    }
    // The order in which joins find the others is nobody's choice; the least is the same every time.
    let columns = sorted.columns().iter().filter(|column| !column.data_type().is_nested());
    let columns = columns.map(|column| SortColumn { values: Arc::clone(column), options: None }).collect::<Vec<_>>();
    let sorted = take_record_batch(&sorted, &lexsort_to_indices(&columns, None)?)?;
    let rows = numbers(&sorted)?.values();
    let firsts = (0..rows.len()).filter(|at| *at == 0 || rows[*at] != rows[at - 1]).map(|at| at as u32);
    Ok(take_record_batch(&sorted, &UInt32Array::from_iter_values(firsts))?)
}

/// Some columns of a batch, under other names.
fn part(batch: &RecordBatch, columns: std::ops::Range<usize>, schema: &SchemaRef) -> Result<RecordBatch> {
    let fields = batch.columns()[columns.clone()].iter().zip(&schema.fields()[..columns.len()]);
    let fields: Vec<_> = fields
        .map(|(column, field)| field.as_ref().clone().with_data_type(column.data_type().clone()).with_nullable(true))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let columns = batch.columns()[columns].to_vec();
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}
