//! Scenes of plots, and their drawing.

pub mod axes;
pub mod labels;
pub mod layout;
pub mod pdf;
pub mod render;
pub mod scene;
