//! Documents from numbers.

pub mod baseline;
pub mod figure;
pub mod figures;
pub mod folder;
pub mod formats;
pub mod html;
pub mod joined;
pub mod plan;
pub mod plot;
pub mod table;
pub mod tables;
pub mod tensorboard;
pub mod write;
