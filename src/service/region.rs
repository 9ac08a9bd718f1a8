//! AWS regions.

use std::{fmt, str::FromStr, sync::Arc};

use super::Partition;

/// An AWS region such as `eu-central-1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Region(Arc<str>);

/// Text that does not have the form of a region's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an AWS region: expected something like eu-central-1")]
pub struct InvalidRegion(pub String);

impl Region {
    /// The region of AWS's APIs that have none: a value for targets that ask AWS for nothing.
    pub fn global() -> Self {
        Self("us-east-1".into())
    }

    /// The region's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The partition that the region belongs to.
    pub fn partition(&self) -> Partition {
        Partition::of(&self.0)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Region {
    type Err = InvalidRegion;

    fn from_str(s: &str) -> Result<Self, InvalidRegion> {
        let parts: Vec<&str> = s.split('-').collect();
        let shape = (3..=5).contains(&parts.len())
            && parts.iter().all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
            && parts.last().is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
        if shape { Ok(Self(s.into())) } else { Err(InvalidRegion(s.into())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_regions_are_refused() {
        for region in ["", "eu", "eu-central", "EU-CENTRAL-1", "eu--1", "eu-central-x"] {
            assert_eq!(region.parse::<Region>(), Err(InvalidRegion(region.into())));
        }
    }
}
