//! A value that the compiler need not look into.
//!
//! Whether a future may go from one thread to another depends on all that it holds, to the last field. rustc finds that out
//! anew in each async function, and for a session, with its plans and syntax trees, it takes seconds each time: without
//! this, half of the time that it takes to compile Cohort. Behind a trait object the answer is known.

use std::ops::Deref;

pub struct Opaque<T>(Box<dyn Holds<T>>);

trait Holds<T>: Send + Sync {
    fn held(&self) -> &T;
}

impl<T: Send + Sync> Holds<T> for T {
    fn held(&self) -> &T {
        self
    }
}

impl<T: Send + Sync + 'static> Opaque<T> {
    pub fn new(value: T) -> Self {
        Self(Box::new(value))
    }
}

impl<T> Deref for Opaque<T> {
    type Target = T;

    fn deref(&self) -> &T {
        (*self.0).held()
    }
}
