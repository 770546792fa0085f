//! The private cluster of the embedded default.
