//! What models of vectors share: how vectors are stored and ranked by, and how the next version starts from them.

use std::borrow::Cow;

use datafusion::arrow::datatypes::Float32Type;
use datafusion::arrow::record_batch::RecordBatch;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis, concatenate, s};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::frame::{Artefact, Keys, Side, matrix_rows, rows_matrix};
use crate::kernels::topk;
use crate::models::{Ask, History, Taste};

/// Customers and products as vectors, by their numbers in the history, ready to be ranked by.
#[derive(Debug)]
pub(super) struct Vectors {
    pub users: Array2<f32>,
    pub items: Array2<f32>,
    /// The products, arranged to be searched. A bias is one more factor, which every customer has as 1.
    searched: topk::Items,
    has_biases: bool,
}

impl Vectors {
    /// A score is the product of two vectors, and the product's bias where there are such.
    pub fn new(users: Array2<f32>, items: Array2<f32>, biases: Option<ArrayView1<f32>>) -> Result<Self> {
        let searched = match &biases {
            None => topk::Items::of(items.view()),
            Some(biases) => {
                let biases = biases.view().insert_axis(Axis(1));
                topk::Items::of(concatenate(Axis(1), &[items.view(), biases]).map_err(out_of_shape)?.view())
            }
        };
        Ok(Self { users, items, searched, has_biases: biases.is_some() })
    }

    /// The vectors of one side, without biases.
    pub fn of(&self, side: Side) -> ArrayView2<'_, f32> {
        if side == Side::User { self.users.view() } else { self.items.view() }
    }

    /// The best products for each taste. A customer as trained on has a vector; for any other, `solve` finds one by who it
    /// is, if known, and what they had.
    pub fn rank(
        &self,
        history: &History,
        tastes: &[Taste],
        ask: &Ask,
        solve: impl Fn(Option<u32>, &[(u32, f32)]) -> Result<Array1<f32>> + Sync,
    ) -> Result<Vec<Vec<(u32, f32)>>> {
        let factors = self.items.ncols();
        let mut vectors = Array2::ones((tastes.len(), factors + usize::from(self.has_biases)));
        let rows: Vec<_> = vectors.outer_iter_mut().zip(tastes).collect();
        let fill = |(mut row, taste): (ArrayViewMut1<f32>, &Taste)| -> Result<()> {
            let mut row = row.slice_mut(s![..factors]);
            match taste {
                Taste::Known(user) => row.assign(&self.users.row(*user as usize)),
                Taste::Changed(user, basket) => row.assign(&solve(Some(*user), basket)?),
                Taste::Basket(basket) => row.assign(&solve(None, basket)?),
            }
            Ok(())
        };
        match rows.len() {
            // To hand a single one to other threads, and to wait for them, takes longer than to do it.
            0..=1 => rows.into_iter().try_for_each(fill)?,
            _ => rows.into_par_iter().try_for_each(fill)?,
        }
        let seen: Vec<Cow<[u32]>> = tastes.iter().map(|taste| taste.seen(history)).collect();
        let seen: Vec<&[u32]> = seen.iter().map(AsRef::as_ref).collect();
        topk::top_k(&topk::Query {
            users: vectors.view(),
            items: &self.searched,
            k: ask.k,
            seen: ask.exclude_seen.then_some(&seen[..]),
            candidates: ask.candidates.as_deref(),
        })
    }
}

fn out_of_shape(error: ndarray::ShapeError) -> Error {
    Error::internal(error.to_string())
}

/// One number for each row, as a part of an artefact.
pub(super) fn column_stored(name: &str, column: ArrayView1<f32>) -> Result<RecordBatch> {
    matrix_rows::<Float32Type>(name, &column.insert_axis(Axis(1)).to_owned())
}

/// The part of that name: as many rows, and of the same length where `factors` tells one.
pub(super) fn stored_matrix(
    artefact: &Artefact,
    part: &str,
    rows: usize,
    factors: Option<usize>,
) -> Result<Array2<f32>> {
    let matrix = rows_matrix::<Float32Type>(artefact.part(part)?)?;
    if matrix.nrows() != rows || factors.is_some_and(|factors| factors != matrix.ncols()) {
        return Err(Error::corrupt("the model's vectors do not fit its history"));
    }
    Ok(matrix)
}

/// What [`column_stored`] was given.
pub(super) fn stored_column(artefact: &Artefact, part: &str, rows: usize) -> Result<Array1<f32>> {
    Ok(stored_matrix(artefact, part, rows, Some(1))?.column(0).to_owned())
}

/// Rows of an earlier version, and for each row of now which of them it was.
pub(super) struct Earlier {
    rows: Array2<f32>,
    numbers: Vec<Option<u32>>,
}

impl Earlier {
    /// `rows` belong to the keys `then`. `None` where keys are of another type by now.
    pub fn of(rows: Array2<f32>, then: &Keys, now: &Keys) -> Option<Self> {
        Some(Self { rows, numbers: then.codes(now.values()).ok()? })
    }

    /// Puts what was there into `now`; rows that are new keep what they have.
    pub fn put_into(&self, now: &mut ArrayViewMut2<f32>) {
        for (mut now, number) in now.outer_iter_mut().zip(&self.numbers) {
            if let Some(number) = number {
                now.assign(&self.rows.row(*number as usize));
            }
        }
    }

    /// How many rows were there, and how far they have moved: the length of all ways together as a share of what the
    /// vectors were long (both by the root of the sum of squares).
    fn moved(&self, now: ArrayView2<f32>) -> (usize, f64) {
        let square = |row: ArrayView1<f32>| row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        let (mut kept, mut way, mut length) = (0, 0.0, 0.0);
        for (now, number) in now.outer_iter().zip(&self.numbers) {
            let Some(number) = number else { continue };
            let then = self.rows.row(*number as usize);
            kept += 1;
            way += square((&now - &then).view());
            length += square(then);
        }
        (kept, if length > 0.0 { (way / length).sqrt() } else { 0.0 })
    }
}

/// A remark on a version that started from an earlier one.
pub(super) fn told(users: &Earlier, items: &Earlier, vectors: &Vectors) -> String {
    let side = |earlier: &Earlier, now: ArrayView2<f32>, name: &str| {
        let (kept, moved) = earlier.moved(now);
        format!("{kept} of {} {name} were in it and moved by {:.1} %", now.nrows(), 100.0 * moved)
    };
    format!(
        "started from the earlier version: {}, {}",
        side(users, vectors.users.view(), "customers"),
        side(items, vectors.items.view(), "products")
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};
    use ndarray::array;

    use super::*;
    use crate::models::fake::Fake;

    fn keys(values: &[i64]) -> Keys {
        Keys::stored(&(Arc::new(Int64Array::from(values.to_vec())) as ArrayRef)).unwrap()
    }

    #[test]
    fn a_bias_is_part_of_the_score_and_no_part_of_the_vector() {
        // Products by falling number of customers: 7, then 5 and 6.
        let history = Fake::of(&[(10, 7), (20, 7), (20, 5), (30, 6)]).history;
        let (users, items) = (array![[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], array![[1.0, 2.0], [3.0, 0.0], [0.0, 0.5]]);
        let ask = Ask { k: 2, exclude_seen: false, ..Ask::default() };
        let basket = [(0, 1.0)];
        let tastes = [Taste::Known(1), Taste::Basket(&basket), Taste::Changed(2, &basket)];
        let solve = |user: Option<u32>, had: &[(u32, f32)]| {
            assert_eq!(had, basket);
            Ok(array![0.0, if user == Some(2) { 2.0 } else { -1.0 }])
        };
        let plain = Vectors::new(users.clone(), items.clone(), None).unwrap();
        let found = plain.rank(&history, &tastes, &ask, solve).unwrap();
        assert_eq!(found, [[(0, 2.0), (2, 0.5)], [(1, 0.0), (2, -0.5)], [(0, 4.0), (2, 1.0)]]);
        let biased = Vectors::new(users, items, Some(array![-5.0, 0.0, 1.0].view())).unwrap();
        let found = biased.rank(&history, &tastes, &ask, solve).unwrap();
        assert_eq!(found, [[(2, 1.5), (1, 0.0)], [(2, 0.5), (1, 0.0)], [(2, 2.0), (1, 0.0)]]);
        assert_eq!(biased.of(Side::Item).dim(), (3, 2));
        let ask = Ask { exclude_seen: true, candidates: Some(vec![0, 1]), ..ask };
        assert_eq!(biased.rank(&history, &tastes[1..2], &ask, solve).unwrap(), [[(1, 0.0)]]);
    }

    #[test]
    fn the_next_version_starts_from_what_was_there() {
        let rows = array![[3.0, 4.0], [1.0, 0.0]];
        let earlier = Earlier::of(rows.clone(), &keys(&[10, 20]), &keys(&[5, 20, 10])).unwrap();
        let mut now = Array2::zeros((3, 2));
        earlier.put_into(&mut now.view_mut());
        assert_eq!(now, array![[0.0, 0.0], [1.0, 0.0], [3.0, 4.0]]);
        assert_eq!(earlier.moved(now.view()), (2, 0.0));
        // A way of 2 where the vectors had a length of √26.
        now[[2, 1]] = 6.0;
        let (kept, moved) = earlier.moved(now.view());
        assert!(kept == 2 && (moved - 2.0 / 26f64.sqrt()).abs() < 1e-12);
        let texts = Keys::stored(&(Arc::new(StringArray::from(vec!["a"])) as ArrayRef)).unwrap();
        let strangers = Earlier::of(rows, &keys(&[10, 20]), &texts);
        assert!(strangers.is_none_or(|earlier| earlier.moved(array![[1.0, 1.0]].view()) == (0, 0.0)));
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let artefact = Artefact::new(serde_json::json!({}))
            .with_part("matrix", matrix_rows::<Float32Type>("m", &array![[1.0, 2.0], [3.0, 4.0]]).unwrap())
            .with_part("column", column_stored("c", array![0.5, -0.5].view()).unwrap());
        assert_eq!(stored_matrix(&artefact, "matrix", 2, None).unwrap()[[1, 0]], 3.0);
        assert_eq!(stored_column(&artefact, "column", 2).unwrap(), array![0.5, -0.5]);
        assert!(stored_matrix(&artefact, "matrix", 3, None).is_err());
        assert!(stored_matrix(&artefact, "matrix", 2, Some(3)).is_err());
        assert!(stored_column(&artefact, "matrix", 2).is_err());
        assert!(stored_column(&artefact, "nothing", 2).is_err());
    }
}
