//! The lowest place of a smooth hollow: limited-memory BFGS (Nocedal 1980; Liu, Nocedal 1989).

use std::collections::VecDeque;

use ndarray::Array2;

use crate::error::{Error, Result};
use crate::kernels::progress::{Progress, Step};

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    pub max_iterations: usize,
    /// The descent ends when the gradient is no longer than this.
    pub gradient_tolerance: f64,
}

/// Steps that are remembered to guess the curvature from.
const MEMORY: usize = 10;
/// Halvings of a step after which there is nothing lower in its direction that f64 can tell.
const HALVINGS: usize = 40;

/// Goes down from `start`, where `slope` answers the value and the gradient at a place.
///
/// Tells `progress` of each step. Ends early at a flat place, or when no lower one can be found. Fails when cancelled.
pub fn minimise(
    start: Array2<f64>,
    slope: impl Fn(&Array2<f64>) -> (f64, Array2<f64>),
    options: &Options,
    progress: Progress,
) -> Result<Array2<f64>> {
    let mut place = start;
    let (mut value, mut gradient) = slope(&place);
    let mut memory: VecDeque<Pair> = VecDeque::with_capacity(MEMORY);
    for done in 1..=options.max_iterations {
        if dot(&gradient, &gradient).sqrt() <= options.gradient_tolerance {
            break;
        }
        let direction = downhill(&gradient, &memory);
        let steepness = dot(&direction, &gradient);
        // A step of 1 is the Newton step; before anything is known of the curvature, a step of length 1 is prudent.
        let first = if memory.is_empty() { 1.0 / dot(&direction, &direction).sqrt().max(1.0) } else { 1.0 };
        let lower = (0..HALVINGS).find_map(|halvings| {
            let length = first * 0.5f64.powi(halvings as i32);
            let there = &place + &(&direction * length);
            let (low, gradient) = slope(&there);
            // Armijo 1966: lower by at least a part of what the slope promises.
            (low <= value + 1e-4 * length * steepness).then_some((there, low, gradient))
        });
        let Some((there, low, steeper)) = lower else { break };
        let (step, bend) = (&there - &place, &steeper - &gradient);
        let curvature = dot(&step, &bend);
        if curvature > f64::EPSILON * dot(&bend, &bend) {
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            memory.push_back(Pair { step, bend, curvature });
        }
        (place, value, gradient) = (there, low, steeper);
        if !progress(Step { done, total: options.max_iterations, loss: Some(value) }) {
            return Err(Error::cancelled());
        }
    }
    Ok(place)
}

/// How a step changed the gradient.
struct Pair {
    step: Array2<f64>,
    bend: Array2<f64>,
    curvature: f64,
}

/// `−H g`, with the inverse Hessian `H` guessed from the last steps: the two loops of Nocedal 1980.
fn downhill(gradient: &Array2<f64>, memory: &VecDeque<Pair>) -> Array2<f64> {
    let mut direction = -gradient;
    let mut shares = Vec::with_capacity(memory.len());
    for pair in memory.iter().rev() {
        let share = dot(&pair.step, &direction) / pair.curvature;
        direction.scaled_add(-share, &pair.bend);
        shares.push(share);
    }
    if let Some(last) = memory.back() {
        direction *= last.curvature / dot(&last.bend, &last.bend);
    }
    for (pair, share) in memory.iter().zip(shares.into_iter().rev()) {
        let back = dot(&pair.bend, &direction) / pair.curvature;
        direction.scaled_add(share - back, &pair.step);
    }
    direction
}

fn dot(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use proptest::prelude::*;

    use super::*;

    const OPTIONS: Options = Options { max_iterations: 500, gradient_tolerance: 1e-8 };

    #[test]
    fn a_bowl_has_its_lowest_place_in_the_middle() {
        let bowl = |x: &Array2<f64>| {
            let gap = x - &array![[3.0, -1.0]];
            ((&gap * &gap).sum(), gap * 2.0)
        };
        let found = minimise(array![[0.0, 0.0]], bowl, &OPTIONS, &|_| true).unwrap();
        assert!((found - array![[3.0, -1.0]]).iter().all(|gap| gap.abs() < 1e-8));
        let stopped = minimise(array![[0.0, 0.0]], bowl, &OPTIONS, &|_| false);
        assert_eq!(stopped, Err(Error::cancelled()));
    }

    #[test]
    fn a_crooked_valley_is_followed() {
        // Rosenbrock 1960: f = (1 − a)² + 100 (b − a²)², lowest at (1, 1).
        let valley = |x: &Array2<f64>| {
            let (a, b) = (x[[0, 0]], x[[0, 1]]);
            let wall = b - a * a;
            ((1.0 - a).powi(2) + 100.0 * wall * wall, array![[-2.0 * (1.0 - a) - 400.0 * a * wall, 200.0 * wall]])
        };
        let found = minimise(array![[-1.2, 1.0]], valley, &OPTIONS, &|_| true).unwrap();
        assert!((found - array![[1.0, 1.0]]).iter().all(|gap| gap.abs() < 1e-6));
    }

    proptest! {
        #[test]
        fn a_stretched_bowl_too(
            scales in prop::collection::vec(1e-2f64..1e2, 6),
            middle in prop::collection::vec(-9.0f64..9.0, 6),
        ) {
            let bowl = |x: &Array2<f64>| {
                let gaps: Vec<f64> = x.iter().zip(&middle).map(|(x, middle)| x - middle).collect();
                let value = gaps.iter().zip(&scales).map(|(gap, scale)| scale * gap * gap).sum();
                (value, Array2::from_shape_fn((2, 3), |(i, j)| 2.0 * scales[i * 3 + j] * gaps[i * 3 + j]))
            };
            let found = minimise(Array2::zeros((2, 3)), bowl, &OPTIONS, &|_| true).unwrap();
            prop_assert!(found.iter().zip(&middle).all(|(found, middle)| (found - middle).abs() < 1e-4));
        }
    }
}
