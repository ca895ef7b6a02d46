//! The catalogue: products in twelve categories, each with a place in the space of latent factors.

use super::columns::{Table, floats, keys, money, texts};
use super::random::{Concern, below, chance, normal, pick, shuffled, stream};
use super::words::{ADJECTIVES, CATEGORIES, CHARACTERS, COLOURS, Category, ENDINGS, FACTORS, N_FACTORS};
use crate::error::Result;

/// Products of a shop of scale 1; their number grows with the cube root of the scale.
const PRODUCTS: f64 = 300.0;

/// Pairs of products that are bought together.
const PAIRS: usize = 12;

/// How flat popularity is: product of rank r sells like 1 / (r + `OFFSET`)^`STEEPNESS` (Zipf and Mandelbrot).
const OFFSET: f64 = 12.0;
const STEEPNESS: f64 = 0.6;

/// A thing to buy.
#[derive(Debug)]
pub(super) struct Product {
    pub id: i64,
    pub name: String,
    /// What it is in a word, as a review would call it.
    pub noun: String,
    pub category: &'static Category,
    /// Price in cents, before any discount.
    pub price: i64,
    description: String,
    /// How much it leans on each of [`FACTORS`], not negative.
    pub factors: [f64; N_FACTORS],
    /// How good it is, in standard deviations; it moves ratings and returns, never sales.
    pub quality: f64,
    /// How well known it is: the weight by which anybody buys it, 1 on average.
    pub popularity: f64,
    /// The product that often goes into the same basket, by its place in the catalogue.
    pub partner: Option<usize>,
}

/// All products, in the order of their keys.
#[derive(Debug)]
pub(super) struct Catalogue {
    pub products: Vec<Product>,
}

impl Catalogue {
    /// Fills the shelves.
    pub(super) fn stock(scale: f64, seed: u64) -> Result<Self> {
        let n_products = (PRODUCTS * scale.cbrt()).round().max(60.0) as usize;
        let rng = &mut stream(seed, Concern::Products, 0);
        let ranks = shuffled(rng, n_products);
        let fame: Vec<f64> = ranks.iter().map(|rank| (*rank as f64 + OFFSET).powf(-STEEPNESS)).collect();
        let mean_fame = fame.iter().sum::<f64>() / n_products as f64;
        // Names differ because each category deals its combinations of words like a deck of cards.
        let decks: Vec<Vec<usize>> = CATEGORIES
            .iter()
            .map(|category| shuffled(rng, ADJECTIVES.len() * category.materials.len() * category.nouns.len()))
            .collect();
        let products = (0..n_products)
            .map(|place| {
                let shelf = place % CATEGORIES.len();
                let category = &CATEGORIES[shelf];
                let card = decks[shelf][place / CATEGORIES.len()];
                let noun = category.nouns[card % category.nouns.len()];
                let rest = card / category.nouns.len();
                let material = category.materials[rest % category.materials.len()];
                let adjective = ADJECTIVES[rest / category.materials.len()];

                // A product has its category's factors, a little of everything, and often a character of its own.
                let mut factors = category.factors.map(|lean| (lean + 0.16 * normal(rng)).max(0.0));
                let character = below(rng, N_FACTORS);
                let has_character = chance(rng, 0.5);
                if has_character {
                    factors[character] += 0.7;
                }
                let price = round_price(category.price * (0.55 * normal(rng)).exp());
                let noun = noun.to_lowercase();
                let about = if has_character {
                    pick(rng, &CHARACTERS[character])
                } else {
                    pick(rng, &["honest and well made", "nothing more than you need", "built to be used every day"])
                };
                let (what, ending) = (material.to_lowercase(), pick(rng, &ENDINGS));
                let description = match below(rng, 3) {
                    0 => format!("{material} {noun}, {about}. {ending}"),
                    1 => format!("Our {what} {noun}: {about}. {ending}"),
                    _ => format!("{} in {}, {about}. {material}. {ending}", title(&noun), pick(rng, &COLOURS)),
                };
                Product {
                    id: place as i64 + 1,
                    name: format!("{adjective} {material} {}", title(&noun)),
                    noun,
                    category,
                    price,
                    description,
                    factors,
                    quality: normal(rng),
                    popularity: fame[place] / mean_fame,
                    partner: None,
                }
            })
            .collect();
        let mut catalogue = Self { products };
        catalogue.plant_pairs(seed);
        Ok(catalogue)
    }

    /// Marries products of different categories that are neither dear nor the most popular.
    fn plant_pairs(&mut self, seed: u64) {
        let order = shuffled(&mut stream(seed, Concern::Pairs, 0), self.products.len());
        let fit: Vec<usize> = order
            .into_iter()
            .filter(|place| self.products[*place].price <= 4_500 && self.products[*place].popularity < 2.5)
            .collect();
        let mut planted = 0;
        for first in &fit {
            let single = |place: &usize| self.products[*place].partner.is_none();
            let elsewhere = |place: &usize| self.products[*place].category.name != self.products[*first].category.name;
            if planted == PAIRS || !single(first) {
                continue;
            }
            if let Some(second) = fit.iter().copied().find(|place| single(place) && elsewhere(place)) {
                self.products[*first].partner = Some(second);
                self.products[second].partner = Some(*first);
                planted += 1;
            }
        }
    }

    pub(super) fn tables(&self) -> Result<Vec<Table>> {
        let all = &self.products;
        let by_factor = || all.iter().flat_map(|product| (0..N_FACTORS).map(move |factor| (product, factor)));
        let pairs = || {
            let partners = all.iter().enumerate().filter_map(|(place, product)| Some((place, product.partner?)));
            partners.filter(|(a, b)| a < b)
        };
        Ok(vec![
            Table::of_shop(
                "products",
                "What the shop sells; price is the list price",
                vec![
                    keys("product_id", all.iter().map(|product| product.id)),
                    texts("name", all.iter().map(|product| &product.name)),
                    texts("category", all.iter().map(|product| product.category.name)),
                    money("price", all.iter().map(|product| product.price))?,
                    texts("description", all.iter().map(|product| &product.description)),
                ],
            )?,
            Table::of_truth(
                "truth_products",
                "How much a product leans on each latent factor, to be multiplied with truth_tastes",
                vec![
                    keys("product_id", by_factor().map(|(product, _)| product.id)),
                    texts("factor", by_factor().map(|(_, factor)| FACTORS[factor])),
                    floats("weight", by_factor().map(|(product, factor)| product.factors[factor])),
                ],
            )?,
            Table::of_truth(
                "truth_quality",
                "How good a product is, in standard deviations (moves ratings and returns), and how well known, 1 on average",
                vec![
                    keys("product_id", all.iter().map(|product| product.id)),
                    floats("quality", all.iter().map(|product| product.quality)),
                    floats("popularity", all.iter().map(|product| product.popularity)),
                ],
            )?,
            Table::of_truth(
                "truth_pairs",
                "Products that were planted to be bought together",
                vec![
                    keys("product_a", pairs().map(|(a, _)| all[a].id)),
                    keys("product_b", pairs().map(|(_, b)| all[b].id)),
                ],
            )?,
        ])
    }
}

/// A price as shops write it: 4.90, 19.99 or 120.00.
fn round_price(price: f64) -> i64 {
    let whole = price.clamp(3.0, 450.0).round() as i64;
    match whole {
        ..10 => whole * 100 - 10,
        10..80 => whole * 100 - 1,
        _ => (whole + 2) / 5 * 500,
    }
}

/// `chopping board` as `Chopping Board`.
fn title(noun: &str) -> String {
    let words = noun.split(' ').map(|word| {
        let mut letters = word.chars();
        letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_at_any_scale() -> Result<()> {
        for scale in [0.001, 1.0, 100.0] {
            let products = Catalogue::stock(scale, 7)?.products;
            let names: BTreeSet<_> = products.iter().map(|product| &product.name).collect();
            assert_eq!(names.len(), products.len());
            assert!(products.iter().all(|product| product.price > 0 && product.factors.iter().all(|f| *f >= 0.0)));
        }
        Ok(())
    }

    #[test]
    fn partners_love_each_other() -> Result<()> {
        let products = Catalogue::stock(1.0, 7)?.products;
        let paired: Vec<_> = products.iter().enumerate().filter_map(|(a, p)| Some((a, p.partner?))).collect();
        assert_eq!(paired.len(), 2 * PAIRS);
        for (a, b) in paired {
            assert_eq!(products[b].partner, Some(a));
            assert_ne!(products[a].category.name, products[b].category.name);
        }
        Ok(())
    }

    #[test]
    fn prices_look_like_prices() {
        assert_eq!([round_price(0.1), round_price(19.7), round_price(121.0)], [290, 1_999, 12_000]);
        assert_eq!(title("doll's house"), "Doll's House");
    }
}
