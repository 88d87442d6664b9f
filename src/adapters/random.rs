//! Words that nobody can guess. Floor 3.
//!
//! **Invariant:** every bit comes from the kernel.

/// Returns a new word of 128 random bits from the kernel, in hexadecimal.
#[must_use]
pub fn nonce() -> String {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).expect("the kernel gives random numbers to every process once it has booted");
    bits.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_two_are_alike() {
        let all: std::collections::BTreeSet<String> = (0..1000).map(|_| super::nonce()).collect();
        assert!(all.len() == 1000 && all.iter().all(|word| word.len() == 32));
    }
}
