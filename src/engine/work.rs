//! Long work on the engine's own threads, and how it is stopped.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::config::{ConfigNonZeroUsize, ConfigOptions};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, execute_stream};
use futures::{FutureExt, StreamExt};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, oneshot};
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use crate::engine::again::{self, Made};
use crate::engine::session::ready;
use crate::engine::stoppable::stoppable;
use crate::engine::{Rows, Run, Session, runtimes};
use crate::error::{Error, Kind, Result};
use crate::foreign::consistent;

impl Session {
    /// Starts a query on the engine's threads; its rows come as they are made.
    pub(super) async fn rows(&self, plan: LogicalPlan, run: &Run) -> Result<Rows> {
        self.rows_again(plan, None, run).await
    }

    /// The same of a plan that may have run before.
    pub(super) async fn rows_again(&self, plan: LogicalPlan, again: Option<again::Run>, run: &Run) -> Result<Rows> {
        let answer = again.as_ref().and_then(|again| again.answer(&self.options()));
        if let Some(answer) = answer {
            return Ok(ready(answer));
        }
        let turn = self.turn_to_run(&plan, run).await?;
        let (mut state, home) = self.spare_state();
        let cancel = run.cancel.child_token();
        let (send, batches) = mpsc::channel(2);
        let (started, start) = oneshot::channel();
        let stop = cancel.clone();
        let work = self.engine.work()?.clone();
        self.engine.quick()?.spawn(async move {
            let ready = tokio::select! {
                biased;
                () = stop.cancelled() => Err(Error::cancelled()),
                ready = async {
                    let kept = again.as_ref().map(|again| (again, home.options()));
                    let ready = Ready::made(&mut state, plan, kept).await;
                    home.take_back(state);
                    ready
                } => ready,
            };
            let ready = match ready {
                Ok(ready) => ready,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return;
                }
            };
            match ready.small {
                true => ready.run(stop, started, send).await,
                false => drop(work.spawn(ready.run(stop, started, send))),
            }
        });
        let schema = start.await.map_err(|_| Error::internal("the query's task ended before it began"))??;
        Ok(Rows::running(schema, batches, (cancel.drop_guard(), turn)))
    }

    /// Runs `work` as [`Self::on_work_threads`] does, once it is this statement's turn.
    pub(super) async fn in_turn<T, F>(&self, run: &Run, work: impl FnOnce(CancellationToken) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let _turn = self.turn(run).await?;
        self.on_work_threads(run, work).await
    }

    /// Runs `work` on the engine's threads until it ends, or the run is cancelled, or nobody waits any more; it is given the
    /// token that tells of the last two.
    pub(super) async fn on_work_threads<T, F>(&self, run: &Run, work: impl FnOnce(CancellationToken) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let cancel = run.cancel.child_token();
        let work = work(cancel.clone());
        on(self.engine.work()?, cancel, work).await
    }

    /// The same of what is done soon, as planning is.
    pub(super) async fn on_quick_threads<T, F>(&self, run: &Run, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        on(self.engine.quick()?, run.cancel.child_token(), work).await
    }

    /// The rows of a plan as one stream, to be read on the engine's threads.
    pub(super) async fn stream(
        mut state: SessionState,
        plan: LogicalPlan,
        cancel: &CancellationToken,
    ) -> Result<SendableRecordBatchStream> {
        Ready::made(&mut state, plan, None).await?.start(cancel)
    }
}

/// A plan that can be run.
struct Ready {
    physical: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    /// It is done before it is in anybody's way.
    small: bool,
}

impl Ready {
    async fn made(
        state: &mut SessionState,
        plan: LogicalPlan,
        again: Option<(&again::Run, &Arc<ConfigOptions>)>,
    ) -> Result<Self> {
        let made = match again {
            Some((again, options)) => again.made(state, plan, options)?,
            None => Made::new(state.optimize(&plan)?)?,
        };
        let rows = ConfigNonZeroUsize::try_new(made.batch_rows)?;
        if state.config().options().execution.batch_size != rows {
            state.config_mut().options_mut().execution.batch_size = rows;
        }
        let asks_models = made.asks_models;
        let physical = match made.physical()? {
            Some(physical) => physical,
            None => {
                let planned = state.query_planner().create_physical_plan(&made.optimized, state).await?;
                let physical = consistent(planned)?;
                if let Some((again, options)) = again {
                    again.keep(options, made, &physical);
                }
                physical
            }
        };
        let small = runtimes::is_small(&physical, asks_models);
        Ok(Self { physical, context: task_context(state), small })
    }

    fn start(self, cancel: &CancellationToken) -> Result<SendableRecordBatchStream> {
        let physical = stoppable(self.physical, cancel, &self.context.runtime_env().memory_pool)?;
        Ok(execute_stream(physical, self.context)?)
    }

    /// Sends the columns, then the rows. What is small is nearly always one batch: it is there, and the end with it, when
    /// the columns are sent, so that who waits is woken once.
    async fn run(
        self,
        stop: CancellationToken,
        started: oneshot::Sender<Result<SchemaRef>>,
        send: mpsc::Sender<Result<RecordBatch>>,
    ) {
        let small = self.small;
        let mut stream = match self.start(&stop) {
            Ok(stream) => stream,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let schema = stream.schema();
        let mut ahead = None;
        if small {
            let first = next(&mut stream, &stop).await;
            let is_last = first.as_ref().is_none_or(Result::is_err);
            if let Some(first) = first {
                let _ = send.try_send(first);
            }
            ahead = if is_last { Some(None) } else { next(&mut stream, &stop).now_or_never() };
        }
        if matches!(ahead, Some(None)) {
            drop(send);
            let _ = started.send(Ok(schema));
            return;
        }
        if started.send(Ok(schema)).is_err() {
            return;
        }
        loop {
            let batch = match ahead.take() {
                Some(batch) => batch,
                None => next(&mut stream, &stop).await,
            };
            let Some(batch) = batch else { return };
            let failed = batch.is_err();
            if send.send(batch).await.is_err() || failed {
                return;
            }
        }
    }
}

/// The next batch, or that there will be none as it was stopped.
async fn next(stream: &mut SendableRecordBatchStream, stop: &CancellationToken) -> Option<Result<RecordBatch>> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Some(Err(Error::cancelled())),
        batch = stream.next() => batch.map(|batch| batch.map_err(Error::from)),
    }
}

async fn on<T, F>(threads: &Handle, cancel: CancellationToken, work: F) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let _stop = cancel.clone().drop_guard();
    let task = threads.spawn(async move {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::cancelled()),
            done = work => done,
        }
    });
    task.await.map_err(|error| Error::internal(format!("the work panicked: {error}")))?
}

/// What a running plan has to know of its session. The functions that it calls are in it: none is looked up by name.
fn task_context(state: &SessionState) -> Arc<TaskContext> {
    let (session, settings) = (state.session_id().to_owned(), state.config().clone());
    let none = (HashMap::new(), HashMap::new(), HashMap::new(), HashMap::new());
    let runtime = Arc::clone(state.runtime_env());
    Arc::new(TaskContext::new(None, session, settings, none.0, none.1, none.2, none.3, runtime))
}

/// Does what takes long and must not be given up half-way, while other tasks of this thread go on elsewhere.
pub(super) fn not_in_the_way<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}

/// More memory for a training that needs it whole, or the error that says how much it is.
pub(super) fn reserve(reserved: &MemoryReservation, bytes: usize) -> Result<()> {
    reserved.try_grow(bytes).map_err(|_| {
        let wanted = bytes as f64 / f64::from(1 << 30);
        Error::new(Kind::OutOfMemory, format!("this training needs about {wanted:.1} GiB of memory, more than is left"))
            .hint("start the server with a larger --memory-limit, or train on fewer products, or with fewer factors")
    })
}
