//! What the scenarios stand on.

pub(crate) mod clients;
pub(crate) mod driver;
pub(crate) mod gate;
<<<<<<< HEAD
pub(crate) mod refusal;
=======
pub(crate) mod rows;
>>>>>>> part-h
pub(crate) mod servers;
