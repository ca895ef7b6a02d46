//! Products of whole numbers of eight bits, where the processor adds up four of them at once (VNNI).
#![allow(clippy::needless_range_loop)] // A tile of registers is written plainest by counting over all of its arrays.

use super::Simd;

/// Vectors of sums of such products. Whoever holds a value of it may use them: [`run_bytes`] has looked.
pub trait Bytes: Copy + Send + Sync {
    /// Sums in a vector.
    const LANES: usize;
    /// `LANES` plain `i32`.
    type Sums: Copy;

    fn zeros(self) -> Self::Sums;
    /// Adds to each lane's sum the products of the lane's four numbers in `line`, from its vector `at` on, and the four
    /// bytes of `four`, the lowest first.
    fn add_products(self, sums: Self::Sums, line: &Line, at: usize, four: i32) -> Self::Sums;
    /// Bit `i` says that lane `i` of `sums` is not below `floor`.
    fn not_below(self, sums: Self::Sums, floor: i32) -> u32;

    /// The sums of the products of `R` vectors of bytes, in fours, with each four of `lines`: `V` vectors of sums for each.
    ///
    /// They stay in registers from the first four to the last.
    #[inline(always)]
    fn tile<const R: usize, const V: usize, const L: usize>(
        self,
        fours: [&[i32]; R],
        lines: &[[Line; L]],
    ) -> [[Self::Sums; V]; R] {
        const { assert!(V.is_multiple_of(L)) };
        let mut sums = [[self.zeros(); V]; R];
        for r in 0..R {
            assert!(fours[r].len() >= lines.len());
        }
        for (at, line) in lines.iter().enumerate() {
            for r in 0..R {
                // SAFETY: it was found to have as many as there are lines. (A look at each would take as long as the work.)
                let four = unsafe { *fours[r].get_unchecked(at) };
                for v in 0..V {
                    sums[r][v] = self.add_products(sums[r][v], &line[v / (V / L)], v % (V / L), four);
                }
            }
        }
        sums
    }
}

/// As many bytes as memory moves at once.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [u8; super::LINE]);

/// Work that is written over any of these vectors.
pub trait BytesKernel {
    type Output;
    /// As [`Kernel::run`](super::Kernel::run).
    fn run<S: Simd, B: Bytes>(self, simd: S, bytes: B) -> Self::Output;
}

/// Whether this processor has such vectors.
pub fn has_bytes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return x86::has_vnni_512() || x86::has_vnni_256();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Runs `kernel` on the widest such vectors of this processor; `None` where it [has none](has_bytes).
pub fn run_bytes<K: BytesKernel>(kernel: K) -> Option<K::Output> {
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_vnni_512() {
            // SAFETY: the processor was just asked.
            return Some(unsafe { x86::run_vnni_512(kernel) });
        }
        if x86::has_vnni_256() {
            // SAFETY: the processor was just asked.
            return Some(unsafe { x86::run_vnni_256(kernel) });
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    drop(kernel);
    None
}

/// Runs a kernel on all such vectors of this processor, for tests.
#[cfg(test)]
pub(in crate::kernels) fn run_bytes_on_all<K: BytesKernel>(kernel: impl Fn() -> K) -> Vec<K::Output> {
    let mut outputs = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_vnni_512() {
            // SAFETY: the processor was just asked.
            outputs.push(unsafe { x86::run_vnni_512(kernel()) });
        }
        if x86::has_vnni_256() {
            // SAFETY: the processor was just asked.
            outputs.push(unsafe { x86::run_vnni_256(kernel()) });
        }
    }
    outputs
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::{has_avx2, x86};
    use super::{Bytes, BytesKernel, Line};

    #[derive(Clone, Copy)]
    struct Vnni512;

    #[derive(Clone, Copy)]
    struct Vnni256;

    pub(super) fn has_vnni_512() -> bool {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") && has_avx2()
    }

    pub(super) fn has_vnni_256() -> bool {
        is_x86_feature_detected!("avxvnni") && has_avx2()
    }

    #[target_feature(enable = "avx512f,avx512vnni,avx2,fma,f16c")]
    pub(super) fn run_vnni_512<K: BytesKernel>(kernel: K) -> K::Output {
        kernel.run(x86::Avx512, Vnni512)
    }

    #[target_feature(enable = "avxvnni,avx2,fma,f16c")]
    pub(super) fn run_vnni_256<K: BytesKernel>(kernel: K) -> K::Output {
        kernel.run(x86::Avx2, Vnni256)
    }

    // SAFETY, for all blocks below: a Vnni512 or Vnni256 exists only where the processor was found to have it, and what
    // is read lies within the line.

    impl Bytes for Vnni512 {
        const LANES: usize = 16;
        type Sums = __m512i;

        #[inline(always)]
        fn zeros(self) -> __m512i {
            unsafe { _mm512_setzero_si512() }
        }

        #[inline(always)]
        fn add_products(self, sums: __m512i, line: &Line, _at: usize, four: i32) -> __m512i {
            unsafe { _mm512_dpbusd_epi32(sums, _mm512_load_si512(line.0.as_ptr().cast()), _mm512_set1_epi32(four)) }
        }

        #[inline(always)]
        fn not_below(self, sums: __m512i, floor: i32) -> u32 {
            u32::from(unsafe { _mm512_cmpge_epi32_mask(sums, _mm512_set1_epi32(floor)) })
        }
    }

    impl Bytes for Vnni256 {
        const LANES: usize = 8;
        type Sums = __m256i;

        #[inline(always)]
        fn zeros(self) -> __m256i {
            unsafe { _mm256_setzero_si256() }
        }

        #[inline(always)]
        fn add_products(self, sums: __m256i, line: &Line, at: usize, four: i32) -> __m256i {
            let half = line.0.as_chunks::<32>().0[at].as_ptr();
            unsafe { _mm256_dpbusd_avx_epi32(sums, _mm256_load_si256(half.cast()), _mm256_set1_epi32(four)) }
        }

        #[inline(always)]
        fn not_below(self, sums: __m256i, floor: i32) -> u32 {
            unsafe {
                let below = _mm256_cmpgt_epi32(_mm256_set1_epi32(floor), sums);
                !_mm256_movemask_ps(_mm256_castsi256_ps(below)).cast_unsigned() & 0xFF
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Products;

    impl BytesKernel for Products {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd, B: Bytes>(self, _: S, bytes: B) {
            let line = Line(std::array::from_fn(|at| (255 - at) as u8));
            let user = [127i8, -127, 3, -1];
            let four = i32::from_le_bytes(user.map(i8::cast_unsigned));
            for at in 0..16 / B::LANES {
                let sums = bytes.add_products(bytes.zeros(), &line, at, four);
                let twice = bytes.add_products(sums, &line, at, four);
                for (lane, numbers) in line.0[at * B::LANES * 4..].as_chunks::<4>().0[..B::LANES].iter().enumerate() {
                    let sum: i32 =
                        numbers.iter().zip(user).map(|(item, user)| i32::from(*item) * i32::from(user)).sum();
                    assert_eq!(bytes.not_below(sums, sum) >> lane & 1, 1);
                    assert_eq!(bytes.not_below(sums, sum + 1) >> lane & 1, 0);
                    assert_eq!(bytes.not_below(twice, 2 * sum) >> lane & 1, 1);
                    assert_eq!(bytes.not_below(twice, 2 * sum + 1) >> lane & 1, 0);
                }
                assert_eq!(bytes.not_below(sums, i32::MIN), (1 << B::LANES) - 1);
            }
        }
    }

    #[test]
    fn sums_are_exact_on_all_processors() {
        assert_eq!(run_bytes_on_all(|| Products).is_empty(), !has_bytes());
    }
}
