//! How customers and products are cut into blocks, and which entries lie in each stratum.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::csr::Csr;

/// An entry, its customer and product counted from where their blocks begin.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Entry {
    pub user: u32,
    pub item: u32,
}

/// The entries by stratum: as many blocks of customers as of products.
pub(super) struct Strata<'a> {
    had: &'a Csr,
    /// Numbers to a row of factors.
    width: usize,
    /// Where each block of customers begins, and the last one ends: they have about as many entries each.
    users: Vec<usize>,
    /// Products in every block but the last.
    items: usize,
    /// By block of customers, in that by block of products, in that by customer.
    entries: Vec<Entry>,
    /// For each block of customers where each block of products begins in its entries, and the last one ends.
    starts: Vec<Vec<usize>>,
}

/// What walks one stratum: nobody else has its rows meanwhile.
pub(super) struct Blocks<'a> {
    /// Of this stratum, below the square of [`Strata::blocks`].
    pub number: usize,
    /// Rows of the customers.
    pub users: &'a mut [f32],
    /// Rows of the products.
    pub items: &'a mut [f32],
    pub biases: &'a mut [f32],
    pub entries: &'a [Entry],
}

/// Entries that a stratum should have, so that a thread is busy with it for a while.
const ENTRIES: usize = 2048;
/// Products that a block should have, so that there is something to draw from.
const ITEMS: usize = 128;
/// More blocks gain nothing.
const BLOCKS: usize = 256;

impl<'a> Strata<'a> {
    /// Blocks for the entries of `had`. Their number depends on the data alone.
    pub fn of(had: &'a Csr, width: usize) -> Strata<'a> {
        let blocks = (had.nnz() / ENTRIES).isqrt().min(had.n_cols / ITEMS).clamp(1, BLOCKS);
        let start = |block: usize| {
            let before = (had.nnz() as u128 * block as u128 / blocks as u128) as usize;
            had.offsets[1..].partition_point(|end| *end <= before)
        };
        let mut users: Vec<usize> = (0..blocks).map(start).collect();
        users[0] = 0;
        users.push(had.n_rows);
        let entries = vec![Entry::default(); had.nnz()];
        Strata { had, width, users, items: had.n_cols.div_ceil(blocks).max(1), entries, starts: Vec::new() }
    }

    /// Blocks of either side.
    pub fn blocks(&self) -> usize {
        self.users.len() - 1
    }

    /// Puts every entry into its stratum, where products stand at `places`. `go_on` is asked after every block.
    pub fn deal(&mut self, places: &[u32], go_on: &(dyn Fn() -> bool + Sync)) -> Result<()> {
        let (had, blocks, per_block) = (self.had, self.blocks(), self.items as u32);
        let mut parts = Vec::with_capacity(blocks);
        let mut rest = &mut self.entries[..];
        for users in self.users.windows(2) {
            let (part, later) = rest.split_at_mut(had.offsets[users[1]] - had.offsets[users[0]]);
            parts.push((users[0]..users[1], part));
            rest = later;
        }
        let deal = |(users, part): (std::ops::Range<usize>, &mut [Entry])| {
            let mut starts = vec![0; blocks + 1];
            for item in &had.columns[had.offsets[users.start]..had.offsets[users.end]] {
                starts[(places[*item as usize] / per_block) as usize + 1] += 1;
            }
            for block in 0..blocks {
                starts[block + 1] += starts[block];
            }
            let mut next = starts.clone();
            for (user, row) in users.enumerate() {
                for item in had.row(row).0 {
                    let place = places[*item as usize];
                    let next = &mut next[(place / per_block) as usize];
                    part[*next] = Entry { user: user as u32, item: place % per_block };
                    *next += 1;
                }
            }
            if go_on() { Ok(starts) } else { Err(Error::cancelled()) }
        };
        self.starts = parts.into_par_iter().map(deal).collect::<Result<_>>()?;
        Ok(())
    }

    /// One stratum for each block of customers, no two with the same products: block `b` meets block `b + shift`.
    /// `users`, `items` and `biases` are those of all blocks.
    pub fn apart<'b>(
        &'b self,
        shift: usize,
        users: &'b mut [f32],
        items: &'b mut [f32],
        biases: &'b mut [f32],
    ) -> Vec<Blocks<'b>> {
        let blocks = self.blocks();
        let item_blocks = items.chunks_mut(self.items * self.width).zip(biases.chunks_mut(self.items));
        let mut item_blocks: Vec<_> = item_blocks.map(Some).collect();
        let mut apart = Vec::with_capacity(blocks);
        let mut rest = users;
        for (block, starts) in self.starts.iter().enumerate() {
            let (first, end) = (self.users[block], self.users[block + 1]);
            let (users, later) = rest.split_at_mut((end - first) * self.width);
            rest = later;
            let of_items = (block + shift) % blocks;
            let entries = self.had.offsets[first]..self.had.offsets[end];
            let entries = &self.entries[entries][starts[of_items]..starts[of_items + 1]];
            if let Some((items, biases)) = item_blocks.get_mut(of_items).and_then(Option::take) {
                apart.push(Blocks { number: block * blocks + of_items, users, items, biases, entries });
            }
        }
        apart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every third product for every customer, and customer 7 had them all.
    fn many() -> Csr {
        let had = |user: u32, item: u32| user == 7 || (user + item).is_multiple_of(3);
        let pairs =
            (0..300).flat_map(|user| (0..700).filter(move |item| had(user, *item)).map(move |item| (user, item, 1.0)));
        Csr::from_triplets(300, 700, &pairs.collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn every_entry_is_met_once_in_a_pass() {
        let had = many();
        let mut strata = Strata::of(&had, 2);
        assert_eq!(strata.blocks(), 5);
        let places: Vec<u32> = (0..700).map(|item| item * 3 % 700).collect();
        strata.deal(&places, &|| true).unwrap();
        // Each customer's row says who it is, and each product's which one.
        let numbered = |n: usize| (0..n).flat_map(|row| [row as f32, 0.0]).collect::<Vec<_>>();
        let (mut users, mut items, mut biases) = (numbered(300), numbered(700), vec![0.0; 700]);
        let mut met = Vec::new();
        for shift in 0..5 {
            let apart = strata.apart(shift, &mut users, &mut items, &mut biases);
            assert_eq!(apart.len(), 5);
            for blocks in apart {
                assert!(blocks.entries.is_sorted_by_key(|entry| entry.user));
                met.extend(blocks.entries.iter().map(|entry| {
                    (blocks.users[2 * entry.user as usize] as u32, blocks.items[2 * entry.item as usize] as u32)
                }));
            }
        }
        met.sort_unstable();
        let mut expected: Vec<(u32, u32)> = (0..300)
            .flat_map(|user| had.row(user).0.iter().map(move |item| (user as u32, *item)))
            .map(|(user, item)| (user, places[item as usize]))
            .collect();
        expected.sort_unstable();
        assert_eq!(met, expected);
    }

    #[test]
    fn there_may_be_nothing() {
        for (n_rows, n_cols) in [(0, 0), (3, 0), (0, 3), (2, 2)] {
            let had = Csr::from_triplets(n_rows, n_cols, &[]).unwrap();
            let mut strata = Strata::of(&had, 1);
            strata.deal(&(0..n_cols as u32).collect::<Vec<_>>(), &|| true).unwrap();
            let (mut users, mut items, mut biases) = (vec![0.0; n_rows], vec![0.0; n_cols], vec![0.0; n_cols]);
            let apart = strata.apart(0, &mut users, &mut items, &mut biases);
            assert!(apart.iter().all(|blocks| blocks.entries.is_empty()));
        }
    }
}
