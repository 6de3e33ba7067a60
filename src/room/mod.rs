pub mod answer;
pub mod effects;
