//! Vectors of numbers, as wide as the processor at hand has them.
//!
//! A [`Kernel`] is written once, over any [`Simd`]; [`run`] runs it on the widest one there is. The compiler makes one
//! copy of the kernel for each, and the choice is made when the program runs: one binary is fast on new processors
//! and right on old ones.
#![allow(unsafe_code)] // Instructions that not every processor has are unsafe to name; they stay in this file.

mod bytes;

#[cfg(test)]
pub(super) use bytes::run_bytes_on_all;
pub use bytes::{Bytes, BytesKernel, Line, has_bytes, run_bytes};

/// A processor's vectors of `f32`, and of `f64`. Whoever holds a value of it may use them: [`run`] has looked.
pub trait Simd: Copy + Send + Sync {
    /// Numbers in a vector.
    const LANES: usize;
    /// `LANES` plain `f32` and nothing else.
    type Vector: Copy;
    /// Half as many plain `f64` and nothing else.
    type Doubles: Copy;
    /// The numbers of a vector in sixteen bits each, as the processor widens them quickest: f16 on x86, else bf16.
    type Half: Copy;

    fn splat(self, value: f32) -> Self::Vector;
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a · b + c`, with one rounding where the processor can.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// All lanes of `a` added up.
    fn sum(self, a: Self::Vector) -> f32;
    /// Bit `i` says that lane `i` of `a` is not below that of `b`, or that they do not compare.
    fn not_below(self, a: Self::Vector, b: Self::Vector) -> u32;
    /// Each number of `a` rounded to sixteen bits. What lies beyond 65504 may become infinite.
    fn narrow(self, a: Self::Vector) -> Self::Half;
    fn widen(self, a: Self::Half) -> Self::Vector;

    fn splat_double(self, value: f64) -> Self::Doubles;
    /// `a · b + c`, with one rounding where the processor can.
    fn mul_add_doubles(self, a: Self::Doubles, b: Self::Doubles, c: Self::Doubles) -> Self::Doubles;

    /// [`Simd::sum`] of each.
    #[inline(always)]
    fn sums<const N: usize>(self, vectors: [Self::Vector; N]) -> [f32; N] {
        let mut sums = [0.0; N];
        for i in 0..N {
            sums[i] = self.sum(vectors[i]);
        }
        sums
    }

    /// `values` as vectors. They must begin where a vector may (at 64 bytes, any may): else there are none. Numbers
    /// that do not fill a whole one are left out.
    #[inline(always)]
    fn vectors(self, values: &[f32]) -> &[Self::Vector] {
        // SAFETY: both are plain numbers.
        unsafe { plain(values) }
    }

    /// As [`Simd::vectors`].
    #[inline(always)]
    fn vectors_mut(self, values: &mut [f32]) -> &mut [Self::Vector] {
        // SAFETY: as above.
        unsafe { plain_mut(values) }
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
        // SAFETY: as above.
        unsafe { plain(vectors) }
    }

    /// As [`Simd::numbers`].
    #[inline(always)]
    fn numbers_mut(self, vectors: &mut [Self::Vector]) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { plain_mut(vectors) }
    }

    /// Room for numbers as room for half as many vectors' worth of sixteen-bit ones, as [`Simd::vectors`].
    #[inline(always)]
    fn halves(self, room: &[f32]) -> &[Self::Half] {
        // SAFETY: as above.
        unsafe { plain(room) }
    }

    /// As [`Simd::halves`].
    #[inline(always)]
    fn halves_mut(self, room: &mut [f32]) -> &mut [Self::Half] {
        // SAFETY: as above.
        unsafe { plain_mut(room) }
    }

    /// Asks the memory for `value`, which is wanted soon.
    #[inline(always)]
    fn prefetch<T>(self, value: &T) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let start = std::ptr::from_ref(value).cast::<i8>();
            let mut at = 0;
            while at < size_of::<T>() {
                // SAFETY: every x86-64 has this instruction, and it reads nothing that could be seen; the address lies
                // within `value`.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(at)) };
                at += LINE;
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = value;
    }
}

/// The same memory as values of another type. (Written out, for `align_to` is a call of a function where it must be
/// none.)
///
/// # Safety
///
/// `A` has no padding, and every pattern of bits is a `B`: numbers, and vectors of them.
#[inline(always)]
unsafe fn plain<A: Copy, B: Copy>(values: &[A]) -> &[B] {
    let start = values.as_ptr().cast::<B>();
    debug_assert!(start.is_aligned() && size_of_val(values).is_multiple_of(size_of::<B>()));
    if !start.is_aligned() {
        return &[];
    }
    // SAFETY: it begins where a `B` may, and ends within `values`.
    unsafe { std::slice::from_raw_parts(start, size_of_val(values) / size_of::<B>()) }
}

/// # Safety
///
/// As for [`plain`], and every pattern of bits is an `A`.
#[inline(always)]
unsafe fn plain_mut<A: Copy, B: Copy>(values: &mut [A]) -> &mut [B] {
    let (start, bytes) = (values.as_mut_ptr().cast::<B>(), size_of_val(values));
    debug_assert!(start.is_aligned() && bytes.is_multiple_of(size_of::<B>()));
    if !start.is_aligned() {
        return &mut [];
    }
    // SAFETY: as above, and nobody else has it.
    unsafe { std::slice::from_raw_parts_mut(start, bytes / size_of::<B>()) }
}

/// Rows of one length, found with one look at whether there is such a row.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a, T> {
    cells: &'a [T],
    width: usize,
    n_rows: usize,
}

impl<'a, T> Table<'a, T> {
    /// Of rows of `width` cells, one after the other; what does not fill a row is left out.
    #[inline(always)]
    pub fn of(cells: &'a [T], width: usize) -> Self {
        Self { cells, width, n_rows: cells.len().checked_div(width).unwrap_or(0) }
    }

    #[inline(always)]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Panics where there is no such row, as a slice would.
    #[inline(always)]
    pub fn row(&self, at: u32) -> &'a [T] {
        assert!((at as usize) < self.n_rows);
        // SAFETY: `n_rows` rows of `width` cells are in `cells`.
        unsafe { std::slice::from_raw_parts(self.cells.as_ptr().add(at as usize * self.width), self.width) }
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

/// Asks the system to keep room in large pages, where it has such: those who read all over it then wait less for its
/// addresses to be looked up. To be asked before the room is first written.
pub fn spread_out(room: &[f32]) {
    #[cfg(target_os = "linux")]
    {
        use std::ffi::{c_int, c_void};
        unsafe extern "C" {
            fn madvise(start: *mut c_void, bytes: usize, advice: c_int) -> c_int;
        }
        const MADV_HUGEPAGE: c_int = 14;
        const LARGE_PAGE: usize = 1 << 21;
        let start = room.as_ptr().addr().next_multiple_of(LARGE_PAGE);
        let end = (room.as_ptr().addr() + size_of_val(room)) / LARGE_PAGE * LARGE_PAGE;
        // In less than a few of them everything is found quickly anyway.
        if end > start + 2 * LARGE_PAGE {
            // SAFETY: the pages lie within `room`, and what they hold is not changed. It is no matter if none are granted.
            unsafe { madvise(std::ptr::without_provenance_mut(start), end - start, MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = room;
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
        if has_avx2() {
            // SAFETY: the processor was just asked.
            return unsafe { x86::run_avx2(kernel) };
        }
    }
    kernel.run(Portable)
}

/// Whether it has what comes with AVX2 in every processor that has it.
#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// Runs a kernel on all vectors of this processor, for tests.
#[cfg(test)]
pub(super) fn run_on_all<K: Kernel>(kernel: impl Fn() -> K) -> Vec<K::Output> {
    #[allow(unused_mut)]
    let mut outputs = vec![kernel().run(Portable)];
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx2() {
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

#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub struct EightHalves([u16; 8]);

impl Simd for Portable {
    const LANES: usize = 8;
    type Vector = Eight;
    type Doubles = Four;
    type Half = EightHalves;

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

    /// The upper half of each number, rounded to nearest and to even.
    #[inline(always)]
    fn narrow(self, a: Eight) -> EightHalves {
        EightHalves(std::array::from_fn(|lane| {
            let bits = a.0[lane].to_bits();
            (bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16) as u16
        }))
    }

    #[inline(always)]
    fn widen(self, a: EightHalves) -> Eight {
        Eight(std::array::from_fn(|lane| f32::from_bits(u32::from(a.0[lane]) << 16)))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Kernel, Simd};

    #[derive(Clone, Copy)]
    pub(super) struct Avx2;

    #[derive(Clone, Copy)]
    pub(super) struct Avx512;

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(Avx2)
    }

    #[target_feature(enable = "avx512f,avx2,fma,f16c")]
    pub(super) fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(Avx512)
    }

    // SAFETY, for all blocks below: an Avx2 or Avx512 exists only where `run` found the processor to have it.

    impl Simd for Avx2 {
        const LANES: usize = 8;
        type Vector = __m256;
        type Doubles = __m256d;
        type Half = __m128i;

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

        #[inline(always)]
        fn narrow(self, a: __m256) -> __m128i {
            unsafe { _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a) }
        }

        #[inline(always)]
        fn widen(self, a: __m128i) -> __m256 {
            unsafe { _mm256_cvtph_ps(a) }
        }

        /// Eight sums together: neighbours are added, and their sums, until each lane of the last is one of the eight.
        #[inline(always)]
        fn sums<const N: usize>(self, vectors: [__m256; N]) -> [f32; N] {
            let mut sums = [0.0; N];
            let mut done = 0;
            while done + 8 <= N {
                let v = &vectors[done..done + 8];
                let sums = &mut sums[done..done + 8];
                unsafe {
                    let low = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
                    let high = _mm256_hadd_ps(_mm256_hadd_ps(v[4], v[5]), _mm256_hadd_ps(v[6], v[7]));
                    let crossed = _mm256_permute2f128_ps::<0x21>(low, high);
                    _mm256_storeu_ps(sums.as_mut_ptr(), _mm256_add_ps(_mm256_blend_ps::<0xF0>(low, high), crossed));
                }
                done += 8;
            }
            while done < N {
                sums[done] = self.sum(vectors[done]);
                done += 1;
            }
            sums
        }
    }

    impl Simd for Avx512 {
        const LANES: usize = 16;
        type Vector = __m512;
        type Doubles = __m512d;
        type Half = __m256i;

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
        fn narrow(self, a: __m512) -> __m256i {
            unsafe { _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a) }
        }

        #[inline(always)]
        fn widen(self, a: __m256i) -> __m512 {
            // The plain intrinsic asks for no exceptions, and the instruction then cannot read memory by itself.
            unsafe { _mm512_cvt_roundph_ps::<_MM_FROUND_CUR_DIRECTION>(a) }
        }

        #[inline(always)]
        fn sums<const N: usize>(self, vectors: [__m512; N]) -> [f32; N] {
            let mut sums = [0.0; N];
            let mut done = 0;
            while done + 8 <= N {
                let v = &vectors[done..done + 8];
                let sums = &mut sums[done..done + 8];
                unsafe {
                    // Folded to half their width two to a vector, and again: then each quarter of one is a vector.
                    let halves = |a, b| {
                        let (low, high) = (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xEE>(a, b));
                        _mm512_add_ps(low, high)
                    };
                    let quarters = |a, b| {
                        let (even, odd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xDD>(a, b));
                        _mm512_add_ps(even, odd)
                    };
                    let first = quarters(halves(v[0], v[1]), halves(v[2], v[3]));
                    let last = quarters(halves(v[4], v[5]), halves(v[6], v[7]));
                    // Neighbours are added, and their sums: in quarter q the first two are of vector q, the others of q + 4.
                    let (even, odd) = (_mm512_shuffle_ps::<0x88>(first, last), _mm512_shuffle_ps::<0xDD>(first, last));
                    let pairs = _mm512_add_ps(even, odd);
                    let whole = _mm512_add_ps(pairs, _mm512_permute_ps::<0xB1>(pairs));
                    let order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
                    let ordered = _mm512_castps512_ps256(_mm512_permutexvar_ps(order, whole));
                    _mm256_storeu_ps(sums.as_mut_ptr(), ordered);
                }
                done += 8;
            }
            while done < N {
                sums[done] = self.sum(vectors[done]);
                done += 1;
            }
            sums
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
            simd.prefetch(&vectors[0]);
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
            let mut halves = [0.0; 16 + 16];
            let start = halves.as_ptr().align_offset(LINE);
            let halves = simd.halves_mut(&mut halves[start..start + n]);
            let odd = simd.mul_add(vectors[1], simd.splat(-1.0 / 3.0), simd.splat(0.01));
            halves[..2].copy_from_slice(&[simd.narrow(odd), simd.narrow(simd.splat(-0.0))]);
            let close = [simd.widen(halves[0]), simd.widen(halves[1])];
            for (close, number) in simd.numbers(&close).iter().zip(simd.numbers(&[odd, simd.splat(0.0)])) {
                assert!((close - number).abs() <= number.abs() / 256.0, "{number} became {close}");
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
    fn a_table_has_the_rows_that_are_whole() {
        let cells: Vec<u8> = (0..11).collect();
        let table = Table::of(&cells, 3);
        assert_eq!((table.width(), table.row(0), table.row(2)), (3, &[0, 1, 2][..], &[6, 7, 8][..]));
        assert!(std::panic::catch_unwind(|| table.row(3)).is_err());
        assert!(std::panic::catch_unwind(|| Table::<u8>::of(&[], 0).row(0)).is_err());
    }

    #[test]
    fn all_processors_agree() {
        assert!(!run_on_all(|| Everything).is_empty());
    }
}
