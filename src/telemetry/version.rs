//! What this binary was built from. `build.rs` finds it out.

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit it was built from; `unknown` outside a repository.
pub const COMMIT: &str = env!("TIDEGATE_COMMIT");
/// When it was built: UTC, ISO 8601, to the second.
pub const BUILT: &str = env!("TIDEGATE_BUILT");
