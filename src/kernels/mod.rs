//! Arithmetic you could check on paper.
