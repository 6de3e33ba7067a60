//! "Did you mean …?"

/// The candidate that looks most like `word`, if any looks like it at all. Cost: one edit distance
/// per candidate.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The distance is quadratic in length, and no known name is long.
    if word.len() > 100 {
        return None;
    }
    candidates
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(word, name), name))
        .min_by_key(|&(distance, _)| distance)
        .filter(|&(distance, name)| distance <= (name.len() / 3).max(1))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_find_their_name_and_strangers_find_none() {
        assert_eq!(nearest("lsiten", ["listen", "workers"]), Some("listen"));
        assert_eq!(nearest("colour", ["listen", "workers"]), None);
        assert_eq!(nearest("x", []), None);
    }
}
