//! Documents from numbers.

pub mod audit;
pub mod baseline;
pub mod compare;
pub mod drawings;
pub mod figure;
pub mod figures;
pub mod folder;
pub mod formats;
pub mod html;
pub mod joined;
pub mod plan;
pub mod plot;
pub mod power;
pub mod show;
pub mod table;
pub mod tables;
pub mod tensorboard;
pub mod write;
