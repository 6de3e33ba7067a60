//! What the targets run: the same functions that `tests/fuzz` runs over the corpus.

#[path = "../../tests/api"]
pub mod api {
    pub mod desk;
}
#[path = "../../tests/fuzz/mod.rs"]
pub mod fuzz;
#[path = "../../tests/room"]
pub mod room {
    pub mod house;
}
