//! The words that every layer shares: names, modes, statuses, metadata.

pub mod flag;
pub mod mode;
pub mod object;
pub mod status;
pub mod uri;
