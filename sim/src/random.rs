//! Chance, by seed: a stream of its own for each device and purpose, so that taking one device away does not change
//! the luck of the others.

/// A stream of random numbers (`SplitMix64`: Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
/// OOPSLA 2014), begun at a place that seed, device and purpose decide.
#[derive(Debug, Clone)]
pub struct Stream(u64);

impl Stream {
    /// The stream of this seed, device and purpose.
    #[must_use]
    pub fn of(seed: u64, device: u64, purpose: &str) -> Self {
        let mut state = scramble(seed ^ 0x6275_7272);
        state = scramble(state ^ device);
        // FNV-1a over the purpose: few short words, told apart.
        let word = purpose
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        Self(scramble(state ^ word))
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scramble(self.0)
    }

    /// A number from 0 to 1, 1 left out.
    pub fn unit(&mut self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
        let bits = (self.bits() >> 11) as f64;
        bits / 9_007_199_254_740_992.0
    }

    /// A whole number below `bound`, which is not 0 (Lemire's multiplication; its bias is below `bound` / 2^64).
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below zero");
        let wide = u128::from(self.bits()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the upper half of a product")
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A whole number from `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        if least >= most { least } else { least + self.below((most - least).saturating_add(1).max(1)) }
    }

    /// The wait for the next of events that come at random, one each `mean` on average.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Takes at most `count` of the numbers below `bound`, each as likely as any other, in a random order.
    pub fn sample(&mut self, bound: usize, count: usize) -> Vec<usize> {
        if count >= bound {
            let mut all: Vec<usize> = (0..bound).collect();
            for left in (1..bound).rev() {
                all.swap(left, self.index(left + 1));
            }
            return all;
        }
        // Floyd's algorithm: no table of all.
        let mut taken = Vec::with_capacity(count);
        for top in bound - count..bound {
            let drawn = self.index(top + 1);
            taken.push(if taken.contains(&drawn) { top } else { drawn });
        }
        taken
    }

    /// A place in a list of this length.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("below a length")
    }
}

/// The finaliser of `SplitMix64`: every bit of the result hangs on every bit of the input.
fn scramble(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_follows_from_seed_device_and_purpose_alone() {
        let first = |seed, device, purpose| Stream::of(seed, device, purpose).bits();
        assert_eq!(first(1, 2, "duty"), first(1, 2, "duty"));
        let others = [first(2, 2, "duty"), first(1, 3, "duty"), first(1, 2, "loss")];
        assert!(others.iter().all(|other| *other != first(1, 2, "duty")));
    }

    #[test]
    fn draws_have_the_mean_that_they_are_to_have() {
        let mut stream = Stream::of(7, 0, "test");
        let count = 100_000;
        let mean = |draw: &mut dyn FnMut() -> f64| (0..count).map(|_| draw()).sum::<f64>() / f64::from(count);
        // Five standard errors.
        assert!((mean(&mut || stream.unit()) - 0.5).abs() < 0.005);
        let mut stream = Stream::of(8, 0, "test");
        assert!((mean(&mut || stream.exponential(4.0)) - 4.0).abs() < 0.065);
        let mut stream = Stream::of(9, 0, "test");
        #[allow(clippy::cast_precision_loss, reason = "numbers below ten")]
        let tens = mean(&mut || stream.between(1, 10) as f64);
        assert!((tens - 5.5).abs() < 0.05);
    }

    #[test]
    fn a_sample_has_no_number_twice() {
        let mut stream = Stream::of(1, 1, "sample");
        for (bound, count) in [(10, 3), (10, 10), (3, 10), (1000, 64)] {
            let mut sample = stream.sample(bound, count);
            sample.sort_unstable();
            sample.dedup();
            assert_eq!(sample.len(), count.min(bound));
            assert!(sample.iter().all(|drawn| *drawn < bound));
        }
    }
}
