//! The options that say who we are for AWS, and where, for subcommands without a TARGET.

use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::{caller::Caller, exit::Exit, flags::Flags, output::Output, trust};
use crate::{
    app::Cause,
    aws::{Account, Options},
    config::{self, Key, Kind, Place, Server, options::Group},
    target::{Identity, Region},
};

/// The options that say who we are for AWS, and where.
#[derive(Debug, Default)]
pub(super) struct AccountArguments(Flags);

impl AccountArguments {
    fn keys() -> impl Iterator<Item = Key> + Clone {
        Key::flags().filter(|key| key.entry().group == Group::Identity)
    }
}

impl Args for AccountArguments {
    fn augment_args(command: Command) -> Command {
        Flags::augment(command, Self::keys())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for AccountArguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(Flags::read(matches, Self::keys())))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Our identity for AWS, and our region as far as that is known.
pub(super) struct Known {
    pub(super) identity: Identity,
    /// The region that is configured, or the profile's.
    pub(super) region: Option<Region>,
    /// See [`Place::servers`].
    pub(super) servers: Vec<Server>,
    /// See [`Place::uses_dsql`].
    pub(super) uses_dsql: bool,
    /// See [`Caller`].
    pub(super) caller: Caller,
}

impl Known {
    /// The same, where the region must be known.
    ///
    /// # Errors
    /// The exit code, when it is not.
    pub(super) fn options(self, output: &mut Output) -> Result<(Options, Caller), Exit> {
        let Self { identity, region, caller, .. } = self;
        let Some(region) = region else {
            output.problem("the region is unknown", Some("set --region, AWS_REGION or the profile's region"));
            return Err(Exit::Usage);
        };
        Ok((Options { identity, region }, caller))
    }
}

impl AccountArguments {
    /// These flags as words of a command line.
    pub(super) fn words(&self) -> Vec<String> {
        let given = Self::keys().filter_map(|key| Some((key, self.0.get(key)?)));
        let words = |(key, value): (Key, &str)| match key.kind() {
            Kind::Boolean => vec![format!("{}={value}", key.flag())],
            _ if value.starts_with('-') => vec![format!("{}={value}", key.flag())],
            _ => vec![key.flag(), value.to_owned()],
        };
        given.flat_map(words).collect()
    }

    /// Whether the command line names a profile.
    pub(super) fn names_a_profile(&self) -> bool {
        self.0.get(Key::Profile).is_some()
    }

    /// Sets the profile, whatever the command line has.
    pub(super) fn set_profile(&mut self, profile: &str) {
        self.0.set(Key::Profile, profile);
    }

    /// Joins the flags with the variables and the files, and prints what is odd or wrong.
    ///
    /// # Errors
    /// The exit code, when it was wrong.
    pub(super) fn known(self, output: &mut Output) -> Result<Known, Exit> {
        let request = self.0.request(Vec::new());
        let place = trust::with_consent(
            output,
            |environment, _| config::place(&request, environment),
            |place: &Place| place.consent.as_ref(),
        );
        let Place { identity, region, mfa_code, open_browser, warnings, servers, uses_dsql, consent: _ } = place
            .map_err(|error| {
                output.error(&error, error.hint().as_deref());
                Exit::Usage
            })?;
        output.warnings(&warnings);
        let of_profile = match region {
            Some(region) => Ok(Some(region)),
            None => Account::region_of_profile(identity.profile.as_deref()),
        };
        let region = of_profile.map_err(|error| {
            output.error(&error, error.hint().as_deref());
            Exit::from(Cause::from(&error))
        })?;
        Ok(Known { identity, region, servers, uses_dsql, caller: Caller::new(mfa_code, open_browser) })
    }

    /// [`AccountArguments::known`] and [`Known::options`].
    ///
    /// # Errors
    /// Those of both.
    pub(super) fn options(self, output: &mut Output) -> Result<(Options, Caller), Exit> {
        self.known(output)?.options(output)
    }
}
