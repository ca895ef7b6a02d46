//! How a training loop tells of its steps, and how it is stopped.

/// One finished step of a training loop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    pub done: usize,
    /// The most steps there can be; a loop that settles early ends with `done` below it.
    pub total: usize,
    /// What the loop makes smaller, where it is cheap to know.
    pub loss: Option<f64>,
}

impl Step {
    /// No step, only the question whether to go on: for what a training does between its loops.
    pub const QUESTION: Self = Self { done: 0, total: 0, loss: None };
}

/// Is told of each step, and of the last one again (or of step 0) while the next takes long; `false` stops the loop (the
/// kernel returns `Error::cancelled()`).
pub type Progress<'a> = &'a (dyn Fn(Step) -> bool + Sync);
