//! The record of events: followed live, let out as the settings say, forgotten in time.

mod export;
mod follow;
mod life;
