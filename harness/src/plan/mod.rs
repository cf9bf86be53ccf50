//! Recipes, and the runs they resolve to.

pub mod external;
pub mod flips;
pub mod grid;
pub mod origin;
pub mod recipe;
pub mod resolve;
pub mod spec;
