//! The threads that plans run on: quick ones, and those for work that takes long.
//!
//! What is quick must not wait behind what is not. A thread that is deep in a batch of a large query gives way to nobody,
//! and a small query, which goes from thread to thread a few times, would wait for the system's scheduler at each of them.
//! So the threads for large work ask the system for less than their share ("nice"), and small plans, and planning itself,
//! have threads of their own.

use std::sync::Arc;

use datafusion::catalog::memory::{DataSourceExec, MemorySourceConfig};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::unnest::UnnestExec;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::Result;

/// Large enough for a plan of thousands of expressions, which DataFusion walks recursively.
const STACK_BYTES: usize = 64 << 20;

/// A worker that is deep in one batch does not give way to other queries; the system's scheduler does that, between
/// more workers than there are processors.
const WORKERS_PER_THREAD: usize = 8;

/// How much less than others the threads for large work ask for: a third.
const NICENESS: i32 = 5;

/// A plan that reads no more than this of files, compressed, is small.
const SMALL_BYTES: u64 = 4 << 20;

/// So is one that only looks for some rows in so much: it keeps nothing, and most of that is passed over.
const LOOK_UP_BYTES: u64 = 64 << 20;

/// Both kinds.
#[derive(Debug)]
pub struct Runtimes {
    quick: Runtime,
    work: Runtime,
}

impl Runtimes {
    pub fn start(threads: usize) -> Result<Self> {
        let runtime = |name: &str, workers: usize| {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(workers).thread_name(name).thread_stack_size(STACK_BYTES).enable_all();
            builder
        };
        Ok(Self {
            quick: runtime("cohort-quick", (2 * threads).max(4)).build()?,
            work: runtime("cohort-work", threads * WORKERS_PER_THREAD).on_thread_start(ask_for_less).build()?,
        })
    }

    pub fn quick(&self) -> &Handle {
        self.quick.handle()
    }

    pub fn work(&self) -> &Handle {
        self.work.handle()
    }

    /// Does not wait: a runtime may not block on its threads inside another runtime's task.
    pub fn shut_down(self) {
        self.quick.shutdown_background();
        self.work.shutdown_background();
    }
}

/// The thread that calls this asks the system for less from here on.
pub fn ask_for_less() {
    #[cfg(target_os = "linux")]
    #[expect(unsafe_code)] // A system call with numbers for arguments, which no safe crate in the tree has.
    // On Linux it is about the calling thread. Where it is refused all threads are alike, as they were.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
}

/// Whether a plan is sure to be done soon: it reads little, and makes no more of it. One that asks a model may read nothing
/// but what is written in it.
pub fn is_small(plan: &Arc<dyn ExecutionPlan>, asks_models: bool) -> bool {
    let most = match asks_models {
        true => return bytes_read(plan, true) == Some(0),
        false if only_looks_up(plan) => LOOK_UP_BYTES,
        false => SMALL_BYTES,
    };
    bytes_read(plan, false).is_some_and(|bytes| bytes <= most)
}

/// Whether rows of files pass one by one, and only those that satisfy a condition.
fn only_looks_up(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if let Some(source) = plan.downcast_ref::<DataSourceExec>() {
        let files = source.data_source().downcast_ref::<FileScanConfig>();
        return files.is_some_and(|files| files.file_source().filter().is_some());
    }
    let passes = plan.is::<ProjectionExec>()
        || plan.is::<FilterExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<GlobalLimitExec>()
        || plan.is::<LocalLimitExec>()
        || plan.is::<CooperativeExec>()
        || plan.downcast_ref::<AggregateExec>().is_some_and(|aggregate| aggregate.group_expr().is_empty());
    passes && plan.children().into_iter().all(only_looks_up)
}

/// Bytes of files that a plan reads; `None`: it may make many rows of few, or reads what has no known size. The answers of a
/// model come as one list and are taken apart, which may be allowed.
fn bytes_read(plan: &Arc<dyn ExecutionPlan>, unnests: bool) -> Option<u64> {
    if let Some(source) = plan.downcast_ref::<DataSourceExec>() {
        let source = source.data_source();
        if let Some(files) = source.downcast_ref::<FileScanConfig>() {
            let files = files.file_groups.iter().flat_map(|group| group.iter());
            return Some(files.map(PartitionedFile::effective_size).sum());
        }
        return source.is::<MemorySourceConfig>().then_some(0);
    }
    let multiplies = (plan.is::<UnnestExec>() && !unnests)
        || plan.is::<CrossJoinExec>()
        || plan.is::<HashJoinExec>()
        || plan.is::<NestedLoopJoinExec>()
        || plan.is::<SortMergeJoinExec>();
    let children = plan.children();
    let starts = plan.is::<PlaceholderRowExec>() || plan.is::<EmptyExec>();
    if multiplies || (children.is_empty() && !starts) {
        return None;
    }
    children.into_iter().map(|child| bytes_read(child, unnests)).sum()
}
