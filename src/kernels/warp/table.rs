//! Embeddings and their steps: adaptive, one for each value in a batch.
#![allow(clippy::needless_range_loop)] // Loops over a width that all slices share become vectors.

use ndarray::{Array1, Array2};
use rayon::prelude::*;

use crate::kernels::dense::Dense;
use crate::kernels::simd::{self, Kernel, Simd};
use crate::kernels::warp::Options;

/// What one entry does to one value: its gradient is `weight` times a row of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Pull {
    pub value: u32,
    /// The entry's number in the batch.
    pub entry: u32,
    pub weight: f32,
}

/// The embeddings of one side, with the squares of the gradients that each of their numbers met.
pub(super) struct Table {
    rows: Dense,
    squares: Dense,
    /// None, or one for each row.
    biases: Vec<f32>,
    bias_squares: Vec<f32>,
    /// Where parts with about the same work begin, and the last one ends.
    parts: Vec<usize>,
}

/// Parts that rows are cut into, for threads to share.
const PARTS: usize = 32;
/// What squares begin with, so that the first steps are not all of the same length.
const BEGIN: f32 = 0.02;

impl Table {
    /// `load` tells how much each row will be asked for; one that never will be becomes zeros.
    pub fn of(rows: &Array2<f32>, biases: Option<&Array1<f32>>, load: &[f64]) -> Table {
        let mut squares = Dense::zeros(rows.nrows(), rows.ncols());
        squares.values_mut().fill(BEGIN);
        let mut rows = Dense::of(rows.view());
        let mut biases = biases.map_or_else(Vec::new, Array1::to_vec);
        let width = rows.width().max(1);
        for (at, row) in rows.values_mut().chunks_exact_mut(width).enumerate().filter(|(at, _)| load[*at] == 0.0) {
            row.fill(0.0);
            biases.get_mut(at).into_iter().for_each(|bias| *bias = 0.0);
        }
        let bias_squares = vec![BEGIN; biases.len()];
        Table { parts: parts(load), rows, squares, biases, bias_squares }
    }

    pub fn rows(&self) -> &Dense {
        &self.rows
    }

    pub fn biases(&self) -> &[f32] {
        &self.biases
    }

    pub fn into_arrays(self, factors: usize) -> (Array2<f32>, Array1<f32>) {
        (self.rows.to_array(factors), Array1::from(self.biases))
    }

    /// Moves every value that `pulls` name, against the sum of what pulls it: rows of `batch`, and 1 for its bias.
    pub fn step(&mut self, pulls: &[Pull], batch: &Dense, options: &Options) {
        let width = self.rows.width();
        let (mut pulls, ends) = by_part(pulls, &self.parts);
        let mut rest = Rows {
            rows: self.rows.values_mut(),
            squares: self.squares.values_mut(),
            biases: &mut self.biases,
            bias_squares: &mut self.bias_squares,
        };
        let mut pulls = &mut pulls[..];
        let mut steps = Vec::with_capacity(ends.len());
        for (part, ends) in self.parts.windows(2).zip(ends.windows(2)) {
            let (these, later) = std::mem::take(&mut pulls).split_at_mut(ends[1] - ends[0]);
            let (rows, others) = rest.split(part[1] - part[0], width);
            (pulls, rest) = (later, others);
            if !these.is_empty() {
                steps.push(Steps { pulls: these, first: part[0], rows, batch: batch.values(), width, options });
            }
        }
        steps.into_par_iter().with_max_len(1).for_each(simd::run);
    }
}

/// Cuts rows into stretches that are asked for about as much.
fn parts(load: &[f64]) -> Vec<usize> {
    let whole: f64 = load.iter().sum();
    let mut parts = vec![0];
    let mut sum = 0.0;
    for (at, load) in load.iter().enumerate() {
        sum += load;
        if *load > 0.0 && sum * PARTS as f64 >= whole * parts.len() as f64 {
            parts.push(at + 1);
        }
    }
    if parts.last() != Some(&load.len()) {
        parts.push(load.len());
    }
    parts
}

/// The pulls in the order of their parts, in each as they come, and where each part begins, and the last one ends.
fn by_part(pulls: &[Pull], parts: &[usize]) -> (Vec<Pull>, Vec<usize>) {
    let part = |pull: &Pull| parts[1..].partition_point(|end| *end <= pull.value as usize);
    let mut ends = vec![0; parts.len()];
    let of_pull: Vec<u32> = pulls.iter().map(|pull| part(pull) as u32).collect();
    of_pull.iter().for_each(|part| ends[*part as usize + 1] += 1);
    for part in 1..ends.len() {
        ends[part] += ends[part - 1];
    }
    let mut next = ends.clone();
    let mut sorted = vec![Pull::default(); pulls.len()];
    for (pull, part) in pulls.iter().zip(of_pull) {
        let next = &mut next[part as usize];
        sorted[*next] = *pull;
        *next += 1;
    }
    (sorted, ends)
}

/// Some rows of a table.
struct Rows<'a> {
    rows: &'a mut [f32],
    squares: &'a mut [f32],
    biases: &'a mut [f32],
    bias_squares: &'a mut [f32],
}

impl<'a> Rows<'a> {
    /// The first `n`, and the others.
    fn split(self, n: usize, width: usize) -> (Rows<'a>, Rows<'a>) {
        let n_biases = n.min(self.biases.len());
        let (rows, later_rows) = self.rows.split_at_mut(n * width);
        let (squares, later_squares) = self.squares.split_at_mut(n * width);
        let (biases, later_biases) = self.biases.split_at_mut(n_biases);
        let (bias_squares, later_bias_squares) = self.bias_squares.split_at_mut(n_biases);
        let later =
            Rows { rows: later_rows, squares: later_squares, biases: later_biases, bias_squares: later_bias_squares };
        (Rows { rows, squares, biases, bias_squares }, later)
    }
}

/// The steps of one part.
struct Steps<'a> {
    pulls: &'a mut [Pull],
    /// The value of the first row.
    first: usize,
    rows: Rows<'a>,
    batch: &'a [f32],
    width: usize,
    options: &'a Options,
}

impl Kernel for Steps<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        let Steps { pulls, first, rows, batch, width, options } = self;
        // Stable: a value's pulls stay in the order of the entries.
        pulls.sort_by_key(|pull| pull.value);
        let mut gradient = vec![0.0; width];
        let gradient = &mut gradient[..width];
        let mut at = 0;
        while at < pulls.len() {
            let value = pulls[at].value;
            gradient.fill(0.0);
            let (mut of_bias, mut entries) = (0.0, 0.0);
            while at < pulls.len() && pulls[at].value == value {
                let weight = pulls[at].weight;
                let pull = &batch[pulls[at].entry as usize * width..][..width];
                for k in 0..width {
                    gradient[k] += weight * pull[k];
                }
                of_bias += weight;
                entries += 1.0;
                at += 1;
            }
            let row = value as usize - first;
            let lambda = options.regularization * entries;
            let vector = &mut rows.rows[row * width..][..width];
            let squares = &mut rows.squares[row * width..][..width];
            for k in 0..width {
                move_one(&mut vector[k], &mut squares[k], gradient[k], lambda, options.learn_rate);
            }
            if let (Some(bias), Some(square)) = (rows.biases.get_mut(row), rows.bias_squares.get_mut(row)) {
                move_one(bias, square, of_bias, lambda, options.learn_rate);
            }
        }
    }
}

/// A step of Adagrad.
#[inline(always)]
fn move_one(number: &mut f32, square: &mut f32, gradient: f32, lambda: f32, rate: f32) {
    let gradient = gradient + lambda * *number;
    *square += gradient * gradient;
    *number -= rate * gradient / square.sqrt();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPTIONS: Options = Options { iterations: 1, learn_rate: 0.1, regularization: 0.5, draws: 1 };

    /// One number after the other, in f64.
    fn slow(
        rows: &Array2<f32>,
        biases: &Array1<f32>,
        steps: &[(Vec<Pull>, Array2<f32>)],
    ) -> (Array2<f64>, Array1<f64>) {
        let (mut rows, mut biases) = (rows.mapv(f64::from), biases.mapv(f64::from));
        let mut squares = Array2::from_elem(rows.dim(), f64::from(BEGIN));
        let mut bias_squares = Array1::from_elem(biases.len(), f64::from(BEGIN));
        let rate = f64::from(OPTIONS.learn_rate);
        for (pulls, batch) in steps {
            for row in 0..rows.nrows() {
                let pulls: Vec<&Pull> = pulls.iter().filter(|pull| pull.value as usize == row).collect();
                if pulls.is_empty() {
                    continue;
                }
                let lambda = f64::from(OPTIONS.regularization) * pulls.len() as f64;
                for k in 0..rows.ncols() {
                    let of = |pull: &&Pull| f64::from(pull.weight) * f64::from(batch[[pull.entry as usize, k]]);
                    let gradient = pulls.iter().map(of).sum::<f64>() + lambda * rows[[row, k]];
                    squares[[row, k]] += gradient * gradient;
                    rows[[row, k]] -= rate * gradient / squares[[row, k]].sqrt();
                }
                let gradient = pulls.iter().map(|pull| f64::from(pull.weight)).sum::<f64>() + lambda * biases[row];
                bias_squares[row] += gradient * gradient;
                biases[row] -= rate * gradient / bias_squares[row].sqrt();
            }
        }
        (rows, biases)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn steps_are_those_of_the_slow_version(
            n_rows in 1usize..70,
            columns in 1usize..20,
            n_steps in 1usize..4,
            salt in 0usize..1000,
        ) {
            let cell = |i: usize, j: usize| ((i * 7 + j * 13 + salt) as f32).sin();
            let rows = Array2::from_shape_fn((n_rows, columns), |(i, j)| cell(i, j));
            let biases = Array1::from_shape_fn(n_rows, |row| cell(row, 99));
            let pull = |at: usize| Pull {
                value: ((at * at + salt) % n_rows) as u32,
                entry: (at % 11) as u32,
                weight: cell(at, 77),
            };
            let steps: Vec<_> = (0..n_steps)
                .map(|step| {
                    let pulls: Vec<Pull> = (step..step + 40).map(pull).collect();
                    (pulls, Array2::from_shape_fn((11, columns), |(i, j)| cell(i + step, j + 5)))
                })
                .collect();
            // Some rows are asked for more than others.
            let load: Vec<f64> = (0..n_rows).map(|row| 1.0 + (row * row % 17) as f64).collect();
            let mut table = Table::of(&rows, Some(&biases), &load);
            for (pulls, batch) in &steps {
                table.step(pulls, &Dense::of(batch.view()), &OPTIONS);
            }
            let (found, found_biases) = table.into_arrays(columns);
            let (expected, expected_biases) = slow(&rows, &biases, &steps);
            let near = |(found, expected): (&f32, &f64)| (f64::from(*found) - expected).abs() < 1e-3;
            prop_assert!(found.iter().zip(&expected).all(near), "{found} or {expected}");
            prop_assert!(found_biases.iter().zip(&expected_biases).all(near));
        }

        #[test]
        fn parts_cover_all_rows_once(
            load in prop::collection::vec(prop::sample::select(vec![0.0, 1.0, 100.0]), 0..90),
        ) {
            let parts = parts(&load);
            prop_assert_eq!((parts[0], parts[parts.len() - 1]), (0, load.len()));
            prop_assert!(parts.windows(2).all(|ends| ends[0] < ends[1]) && parts.len() <= PARTS + 2);
        }
    }

    #[test]
    fn a_row_that_nobody_asks_for_is_zero() {
        let table = Table::of(&Array2::ones((2, 3)), Some(&Array1::ones(2)), &[0.0, 1.0]);
        let (rows, biases) = table.into_arrays(3);
        assert_eq!((rows.row(0).sum(), rows.row(1).sum()), (0.0, 3.0));
        assert_eq!(biases.to_vec(), [0.0, 1.0]);
    }
}
