//! From one `P` to the next, by the users who changed.

use rayon::prelude::*;

use crate::error::{Error, Kind, Result};
use crate::kernels::csr::Csr;
use crate::kernels::ease::{check, fit};
use crate::kernels::progress::{Progress, Step};
use crate::kernels::symmetric::{Change, Symmetric};

/// What was learned before, and who is who.
#[derive(Debug)]
pub struct Earlier<'a> {
    /// `P` of `x` and of the same `λ`.
    pub inverse: Symmetric,
    pub x: &'a Csr,
    /// The earlier number of each user and of each item of now; `None`: there was none. No earlier one twice.
    pub users: &'a [Option<u32>],
    pub items: &'a [Option<u32>],
}

/// How the new `P` came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refit {
    /// So many users' rows were taken in, and so many taken out; an item that is gone leaves with its last row.
    Updated { came: usize, went: usize },
    /// It was computed anew, as so many rows differ that this is quicker.
    Anew { changed: usize },
    /// It was computed anew, as what came out of many updates was no longer exact enough.
    Worn,
}

/// A rank-one update is about as dear as so much of its share of a new inverse.
const DEARER: usize = 2;
/// How far off `B` may be.
const EXACT: f64 = 1e-7;
/// How many columns are looked at.
const LOOKS: usize = 8;
/// Users that are compared between two questions whether to go on.
const ASK: usize = 4096;

/// What [`fit`] answers for `x`, from what it answered earlier: with the rows of those users that changed, by Woodbury's
/// identity, where they are few.
///
/// Costs about `n_items²` operations for each row that comes or goes. Items that are new begin with `1/λ` on the
/// diagonal, which is what `P` holds for an item that nobody had; one that is gone has come to that. A few columns of the
/// result are multiplied out: if they are not exact enough it is thrown away. Fails as [`fit`] does.
pub fn refit(x: &Csr, l2: f64, earlier: Earlier, progress: Progress) -> Result<(Symmetric, Refit)> {
    check(x, l2)?;
    let go_on = |done| progress(Step { done, total: 3, loss: None });
    let moves = Moves::of(x, &earlier, &|| go_on(0))?;
    let (came, went) = (moves.came.n_rows, moves.went.n_rows);
    if (came + went) * DEARER >= x.n_cols {
        return Ok((fit(x, l2, progress)?, Refit::Anew { changed: came + went }));
    }
    let is_same = moves.from.iter().enumerate().all(|(at, from)| *from == Some(at as u32));
    let inverse =
        if is_same { earlier.inverse } else { earlier.inverse.rearranged(&moves.from, 1.0 / l2, &|| go_on(0))? };
    let updated = inverse
        .updated(&moves.came, Change::Come, &|| go_on(0))
        .and_then(|inverse| inverse.updated(&moves.went, Change::Go, &|| go_on(1)));
    let inverse = match updated {
        Err(error) if error.kind == Kind::Invalid => return Ok((fit(x, l2, progress)?, Refit::Worn)),
        Ok(inverse) if moves.from.len() > x.n_cols => {
            let kept: Vec<Option<u32>> = (0..x.n_cols as u32).map(Some).collect();
            inverse.rearranged(&kept, 1.0 / l2, &|| go_on(2))?
        }
        updated => updated?,
    };
    if !is_exact(x, l2, &inverse, &|| go_on(2))? {
        return Ok((fit(x, l2, progress)?, Refit::Worn));
    }
    if go_on(3) { Ok((inverse, Refit::Updated { came, went })) } else { Err(Error::cancelled()) }
}

/// The rows that come and go, over the items of now and after them those that are gone.
struct Moves {
    /// The earlier number of each item.
    from: Vec<Option<u32>>,
    came: Csr,
    went: Csr,
}

impl Moves {
    fn of(x: &Csr, earlier: &Earlier, go_on: &(dyn Fn() -> bool + Sync)) -> Result<Moves> {
        let before = earlier.x;
        let mut from = earlier.items.to_vec();
        let mut number = vec![None; before.n_cols];
        for (now, then) in from.iter().enumerate() {
            if let Some(then) = then {
                number[*then as usize] = Some(now as u32);
            }
        }
        for (then, number) in number.iter_mut().enumerate().filter(|(_, number)| number.is_none()) {
            *number = Some(from.len() as u32);
            from.push(Some(then as u32));
        }
        let then = |user: u32| -> Row {
            let (items, values) = before.row(user as usize);
            let entries = items.iter().zip(values);
            let mut row: Row = entries.filter_map(|(item, value)| Some((number[*item as usize]?, *value))).collect();
            row.sort_unstable_by_key(|(item, _)| *item);
            row
        };
        // What comes and what goes of each user of now.
        let moved = |(now, user): (usize, &Option<u32>)| -> Result<Option<(Row, Row)>> {
            if now % ASK == 0 && !go_on() {
                return Err(Error::cancelled());
            }
            let (items, values) = x.row(now);
            let row: Row = items.iter().copied().zip(values.iter().copied()).collect();
            let old = user.map(then).unwrap_or_default();
            Ok((row != old).then_some((row, old)))
        };
        let moved: Vec<Option<(Row, Row)>> = earlier.users.par_iter().enumerate().map(moved).collect::<Result<_>>()?;
        let (mut came, mut went): (Vec<Row>, Vec<Row>) = moved.into_iter().flatten().unzip();
        let mut is_left = vec![false; before.n_rows];
        earlier.users.iter().flatten().for_each(|user| is_left[*user as usize] = true);
        went.extend((0u32..).zip(is_left).filter(|(_, is_left)| !is_left).map(|(user, _)| then(user)));
        // A row without entries changes nothing.
        came.retain(|row| !row.is_empty());
        went.retain(|row| !row.is_empty());
        Ok(Moves { came: matrix(&came, from.len()), went: matrix(&went, from.len()), from })
    }
}

/// A user's items, ascending, and their values.
type Row = Vec<(u32, f32)>;

fn matrix(rows: &[Row], n_cols: usize) -> Csr {
    let mut matrix = Csr { n_rows: rows.len(), n_cols, offsets: vec![0], columns: Vec::new(), values: Vec::new() };
    for row in rows {
        matrix.columns.extend(row.iter().map(|(item, _)| *item));
        matrix.values.extend(row.iter().map(|(_, value)| *value));
        matrix.offsets.push(matrix.columns.len());
    }
    matrix
}

/// Whether `B` is off by no more than [`EXACT`], as far as a few columns tell.
///
/// With `R = (XᵀX + λI) P − I` the error of `P` is `P R`, of which a column is about as long as `R`'s over `λ` at most;
/// and `P_jj`, by which `B` divides, is at least the inverse of the diagonal of `XᵀX + λI`.
fn is_exact(x: &Csr, l2: f64, inverse: &Symmetric, go_on: &(dyn Fn() -> bool + Sync)) -> Result<bool> {
    let (n, looks) = (x.n_cols, LOOKS.min(x.n_cols));
    let is_exact = |look: usize| {
        let at = look * n / looks;
        let mut column = vec![0.0; n];
        inverse.copy_row(at, &mut column);
        let mut image: Vec<f64> = column.iter().map(|value| l2 * value).collect();
        let mut diagonal = l2;
        for user in 0..x.n_rows {
            let (items, values) = x.row(user);
            let entries = || items.iter().map(|item| *item as usize).zip(values.iter().map(|value| f64::from(*value)));
            let score: f64 = entries().map(|(item, value)| value * column[item]).sum();
            entries().for_each(|(item, value)| image[item] += value * score);
            diagonal += entries().filter(|(item, _)| *item == at).map(|(_, value)| value * value).sum::<f64>();
        }
        image[at] -= 1.0;
        let is_exact = image.iter().all(|gap| gap.abs() * diagonal / l2 <= EXACT);
        if go_on() { Ok(is_exact) } else { Err(Error::cancelled()) }
    };
    let exact: Vec<bool> = (0..looks).into_par_iter().map(is_exact).collect::<Result<_>>()?;
    Ok(!exact.contains(&false))
}
