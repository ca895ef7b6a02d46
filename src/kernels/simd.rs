//! Vectors of numbers, as wide as the processor at hand has them.
//!
//! A [`Kernel`] is written once, over any [`Simd`]; [`run`] runs it on the widest one there is. The compiler makes one
//! copy of the kernel for each, and the choice is made when the program runs: one binary is fast on new processors
//! and right on old ones.
#![allow(unsafe_code)] // Instructions that not every processor has are unsafe to name; they stay in this file.

/// A processor's vectors of `f32`, and of `f64`. Whoever holds a value of it may use them: [`run`] has looked.
pub trait Simd: Copy + Send + Sync {
    /// Numbers in a vector.
    const LANES: usize;
    /// `LANES` plain `f32` and nothing else.
    type Vector: Copy;
    /// Half as many plain `f64` and nothing else.
    type Doubles: Copy;

    fn splat(self, value: f32) -> Self::Vector;
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a · b + c`, with one rounding where the processor can.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// All lanes of `a` added up.
    fn sum(self, a: Self::Vector) -> f32;
    /// Bit `i` says that lane `i` of `a` is not below that of `b`, or that they do not compare.
    fn not_below(self, a: Self::Vector, b: Self::Vector) -> u32;

    fn splat_double(self, value: f64) -> Self::Doubles;
    /// `a · b + c`, with one rounding where the processor can.
    fn mul_add_doubles(self, a: Self::Doubles, b: Self::Doubles, c: Self::Doubles) -> Self::Doubles;

    /// [`Simd::sum`] of each.
    #[inline(always)]
    fn sums<const N: usize>(self, vectors: [Self::Vector; N]) -> [f32; N] {
        let mut sums = [0.0; N];
        for (sum, vector) in sums.iter_mut().zip(vectors) {
            *sum = self.sum(vector);
        }
        sums
    }

    /// `values` as vectors. They must begin where a vector may (at 64 bytes, any may) and fill whole ones: what does
    /// not is left out.
    #[inline(always)]
    fn vectors(self, values: &[f32]) -> &[Self::Vector] {
        // SAFETY: a vector is plain numbers, of which every pattern of bits is one.
        let (before, vectors, after) = unsafe { values.align_to() };
        debug_assert!(before.is_empty() && after.is_empty());
        vectors
    }

    /// As [`Simd::vectors`].
    #[inline(always)]
    fn vectors_mut(self, values: &mut [f32]) -> &mut [Self::Vector] {
        // SAFETY: as above.
        let (before, vectors, after) = unsafe { values.align_to_mut() };
        debug_assert!(before.is_empty() && after.is_empty());
        vectors
    }

    /// As [`Simd::vectors`].
    #[inline(always)]
    fn doubles(self, values: &[f64]) -> &[Self::Doubles] {
        // SAFETY: as above.
        let (before, vectors, after) = unsafe { values.align_to() };
        debug_assert!(before.is_empty() && after.is_empty());
        vectors
    }

    /// As [`Simd::vectors`].
    #[inline(always)]
    fn doubles_mut(self, values: &mut [f64]) -> &mut [Self::Doubles] {
        // SAFETY: as above.
        let (before, vectors, after) = unsafe { values.align_to_mut() };
        debug_assert!(before.is_empty() && after.is_empty());
        vectors
    }

    /// The numbers of `vectors`: the way back from [`Simd::vectors`].
    #[inline(always)]
    fn numbers(self, vectors: &[Self::Vector]) -> &[f32] {
        // SAFETY: a vector is LANES numbers and nothing else, and stricter about where it stands.
        unsafe { vectors.align_to().1 }
    }

    /// As [`Simd::numbers`].
    #[inline(always)]
    fn numbers_mut(self, vectors: &mut [Self::Vector]) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { vectors.align_to_mut().1 }
    }

    /// Asks the memory for `values`, which are wanted soon.
    #[inline(always)]
    fn prefetch(self, values: &[Self::Vector]) {
        prefetch(values);
    }
}

/// Bytes that memory moves at once, and to which every vector type is aligned.
pub const LINE: usize = 64;

/// Asks the memory for `values`, which are wanted soon.
#[inline(always)]
pub fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for value in values.iter().step_by((LINE / size_of::<T>().max(1)).max(1)) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has this instruction, and it reads nothing that could be seen.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// Work that is written over any vectors.
pub trait Kernel {
    type Output;
    /// Must be `#[inline(always)]`, as must be what it calls with `simd`: only then the processor's own instructions
    /// come to stand in it. A closure that another thread runs is not inlined; it calls [`run`] again.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs `kernel` on the widest vectors of this processor.
pub fn run<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor was just asked.
            return unsafe { x86::run_avx512(kernel) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor was just asked.
            return unsafe { x86::run_avx2(kernel) };
        }
    }
    kernel.run(Portable)
}

/// Runs a kernel on all vectors of this processor, for tests.
#[cfg(test)]
pub(super) fn run_on_all<K: Kernel>(kernel: impl Fn() -> K) -> Vec<K::Output> {
    #[allow(unused_mut)]
    let mut outputs = vec![kernel().run(Portable)];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor was just asked.
            outputs.push(unsafe { x86::run_avx2(kernel()) });
        }
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor was just asked.
            outputs.push(unsafe { x86::run_avx512(kernel()) });
        }
    }
    outputs
}

/// Eight numbers that the compiler puts into whatever vectors the target has: two of SSE2, two of NEON.
#[derive(Debug, Clone, Copy)]
pub struct Portable;

#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub struct Eight([f32; 8]);

#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub struct Four([f64; 4]);

impl Simd for Portable {
    const LANES: usize = 8;
    type Vector = Eight;
    type Doubles = Four;

    #[inline(always)]
    fn splat(self, value: f32) -> Eight {
        Eight([value; 8])
    }

    #[inline(always)]
    fn add(self, a: Eight, b: Eight) -> Eight {
        Eight(std::array::from_fn(|lane| a.0[lane] + b.0[lane]))
    }

    #[inline(always)]
    fn mul_add(self, a: Eight, b: Eight, c: Eight) -> Eight {
        // Where the target always has the fused instruction. Elsewhere the method would be a call of a function.
        #[cfg(target_arch = "aarch64")]
        return Eight(std::array::from_fn(|lane| a.0[lane].mul_add(b.0[lane], c.0[lane])));
        #[cfg(not(target_arch = "aarch64"))]
        Eight(std::array::from_fn(|lane| a.0[lane] * b.0[lane] + c.0[lane]))
    }

    #[inline(always)]
    fn sum(self, a: Eight) -> f32 {
        let half: [f32; 4] = std::array::from_fn(|lane| a.0[lane] + a.0[lane + 4]);
        (half[0] + half[2]) + (half[1] + half[3])
    }

    #[inline(always)]
    fn not_below(self, a: Eight, b: Eight) -> u32 {
        (0..8)
            .map(|lane| u32::from(!matches!(a.0[lane].partial_cmp(&b.0[lane]), Some(std::cmp::Ordering::Less))) << lane)
            .sum()
    }

    #[inline(always)]
    fn splat_double(self, value: f64) -> Four {
        Four([value; 4])
    }

    #[inline(always)]
    fn mul_add_doubles(self, a: Four, b: Four, c: Four) -> Four {
        #[cfg(target_arch = "aarch64")]
        return Four(std::array::from_fn(|lane| a.0[lane].mul_add(b.0[lane], c.0[lane])));
        #[cfg(not(target_arch = "aarch64"))]
        Four(std::array::from_fn(|lane| a.0[lane] * b.0[lane] + c.0[lane]))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Kernel, Simd};

    #[derive(Clone, Copy)]
    struct Avx2;

    #[derive(Clone, Copy)]
    struct Avx512;

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(Avx2)
    }

    #[target_feature(enable = "avx512f,avx2,fma")]
    pub(super) fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(Avx512)
    }

    // SAFETY, for all blocks below: an Avx2 or Avx512 exists only where `run` found the processor to have it.

    impl Simd for Avx2 {
        const LANES: usize = 8;
        type Vector = __m256;
        type Doubles = __m256d;

        #[inline(always)]
        fn splat(self, value: f32) -> __m256 {
            unsafe { _mm256_set1_ps(value) }
        }

        #[inline(always)]
        fn add(self, a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_add_ps(a, b) }
        }

        #[inline(always)]
        fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        fn splat_double(self, value: f64) -> __m256d {
            unsafe { _mm256_set1_pd(value) }
        }

        #[inline(always)]
        fn mul_add_doubles(self, a: __m256d, b: __m256d, c: __m256d) -> __m256d {
            unsafe { _mm256_fmadd_pd(a, b, c) }
        }

        #[inline(always)]
        fn sum(self, a: __m256) -> f32 {
            unsafe {
                let half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
                _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)))
            }
        }

        #[inline(always)]
        fn not_below(self, a: __m256, b: __m256) -> u32 {
            unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(a, b)).cast_unsigned() }
        }

        /// Eight sums together: neighbours are added, and their sums, until each lane of the last is one of the eight.
        #[inline(always)]
        fn sums<const N: usize>(self, vectors: [__m256; N]) -> [f32; N] {
            let mut sums = [0.0; N];
            let (eights, rest) = vectors.as_chunks::<8>();
            for (sums, v) in sums.as_chunks_mut::<8>().0.iter_mut().zip(eights) {
                unsafe {
                    let low = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
                    let high = _mm256_hadd_ps(_mm256_hadd_ps(v[4], v[5]), _mm256_hadd_ps(v[6], v[7]));
                    let crossed = _mm256_permute2f128_ps::<0x21>(low, high);
                    _mm256_storeu_ps(sums.as_mut_ptr(), _mm256_add_ps(_mm256_blend_ps::<0xF0>(low, high), crossed));
                }
            }
            for (sum, vector) in sums.iter_mut().rev().zip(rest.iter().rev()) {
                *sum = self.sum(*vector);
            }
            sums
        }
    }

    impl Simd for Avx512 {
        const LANES: usize = 16;
        type Vector = __m512;
        type Doubles = __m512d;

        #[inline(always)]
        fn splat(self, value: f32) -> __m512 {
            unsafe { _mm512_set1_ps(value) }
        }

        #[inline(always)]
        fn add(self, a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }

        #[inline(always)]
        fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        fn splat_double(self, value: f64) -> __m512d {
            unsafe { _mm512_set1_pd(value) }
        }

        #[inline(always)]
        fn mul_add_doubles(self, a: __m512d, b: __m512d, c: __m512d) -> __m512d {
            unsafe { _mm512_fmadd_pd(a, b, c) }
        }

        #[inline(always)]
        fn sum(self, a: __m512) -> f32 {
            unsafe { _mm512_reduce_add_ps(a) }
        }

        #[inline(always)]
        fn not_below(self, a: __m512, b: __m512) -> u32 {
            u32::from(unsafe { _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(a, b) })
        }

        #[inline(always)]
        fn sums<const N: usize>(self, vectors: [__m512; N]) -> [f32; N] {
            // Folded to half their width, they are vectors of Avx2.
            let mut halves = [Avx2.splat(0.0); N];
            for (half, v) in halves.iter_mut().zip(vectors) {
                *half = unsafe {
                    let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(v)));
                    _mm256_add_ps(_mm512_castps512_ps256(v), upper)
                };
            }
            Avx2.sums(halves)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation, on numbers whose sums are exact.
    struct Everything;

    impl Kernel for Everything {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            let mut room = [0.0; 3 * 16 + 16];
            let start = room.as_ptr().align_offset(LINE);
            let room = &mut room[start..start + 3 * S::LANES];
            room.iter_mut().enumerate().for_each(|(at, value)| *value = at as f32);
            let numbers = room.to_vec();
            {
                let vectors = simd.vectors_mut(room);
                let [a, b, c] = [vectors[0], vectors[1], vectors[2]];
                vectors[0] = simd.mul_add(a, b, c);
                vectors[1] = simd.add(a, simd.splat(0.5));
            }
            let n = S::LANES;
            for lane in 0..n {
                assert_eq!(room[lane], numbers[lane] * numbers[n + lane] + numbers[2 * n + lane]);
                assert_eq!(room[n + lane], numbers[lane] + 0.5);
            }
            let vectors = simd.vectors(room);
            simd.prefetch(vectors);
            assert_eq!(simd.numbers(vectors), &*room);
            let doubles: [f64; 16] = std::array::from_fn(|at| f64::from(simd.numbers(vectors)[at]));
            let mut wide = [0.0; 16 + 8];
            let start = wide.as_ptr().align_offset(LINE);
            let wide = &mut wide[start..start + 16];
            wide.copy_from_slice(&doubles);
            let [a, b] = [simd.doubles(wide)[0], simd.doubles(wide)[1]];
            simd.doubles_mut(wide)[0] = simd.mul_add_doubles(a, simd.splat_double(3.0), b);
            for lane in 0..n / 2 {
                assert_eq!(wide[lane], doubles[lane] * 3.0 + doubles[n / 2 + lane]);
            }
            let sum = |vector: usize| room[vector * n..(vector + 1) * n].iter().sum::<f32>();
            assert_eq!(simd.sum(vectors[1]), sum(1));
            let three = |at: usize| vectors[at % 3];
            let eleven: [S::Vector; 11] = std::array::from_fn(three);
            assert_eq!(simd.sums(eleven), std::array::from_fn::<f32, 11, _>(|at| sum(at % 3)));
            let mask = simd.not_below(vectors[1], simd.splat(2.5));
            assert_eq!(mask, (1 << n) - 1 - 0b11);
            assert_eq!(simd.not_below(simd.splat(f32::NAN), vectors[0]), (1 << n) - 1);
        }
    }

    #[test]
    fn all_processors_agree() {
        assert!(!run_on_all(|| Everything).is_empty());
    }
}
