//! Makes the credentials of an [`Identity`], each time from the beginning:
//!
//! ```text
//!   files, variables ─▶ chain (`profiles`) ─▶ keys, SSO, aws login, credential_process, web identity, ECS, EC2 (`provide`)
//!                                               │  session expired: log in (`sso`), or wait for a login
//!                                               ▼
//!                        MFA device ─▶ GetSessionToken (`mfa`) ─▶ AssumeRole, once for each role ─▶ credentials
//! ```
//!
//! The files are read each time, so that changes (`rdsgate login`, new keys) take effect. [`Mark`] detects changes since then.

use std::{sync::Arc, time::Duration};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{
    Error,
    assume::Step,
    calls::Calls,
    http::Clients,
    interaction::{Asking, Interaction},
    mfa::{Device, Devices},
    origin::Origin,
    profiles::{Chain, Environment, Paths, Profiles, Source, Stamp},
    provide::provide,
    sso::Logins,
};
use crate::target::{Identity, MfaCode, Region};

/// The number of logins for one fetch: one, and another if the first had expired by the time it was used.
const LOGINS: usize = 2;
/// The age below which a role cannot require a newer MFA code: a denial then has another reason.
const FRESH: Duration = Duration::from_mins(15);

/// Makes credentials. Owns the state that identities share: HTTP clients, codes, MFA sessions, logins.
pub(super) struct Issuer {
    clients: Clients,
    interaction: Interaction,
    devices: Devices,
    logins: Logins,
}

/// The state of the AWS files when credentials were made, for detecting changes.
pub(super) struct Mark {
    stamp: Stamp,
    chain: Chain,
    /// The state of unusable files for which a warning was logged.
    unusable: Option<Stamp>,
}

/// A snapshot of files and variables.
struct Plan {
    profiles: Profiles,
    chain: Chain,
    calls: Calls,
    stamp: Stamp,
}

impl Issuer {
    pub(super) fn new(interaction: Interaction, code: Option<MfaCode>) -> Arc<Self> {
        let devices = Devices::new(interaction.clone(), code);
        Arc::new(Self { clients: Clients::default(), interaction, devices, logins: Logins::default() })
    }

    pub(super) fn clients(&self) -> &Clients {
        &self.clients
    }

    /// Whether a person can be asked.
    pub(super) fn may_ask(&self) -> bool {
        self.interaction.is_there()
    }

    /// Makes credentials, and asks a person if that is allowed and needed. May take as long as the person's answer.
    pub(super) async fn issue(
        &self,
        identity: &Identity,
        region: &Region,
        asking: Asking,
    ) -> Result<(Credentials, Mark), Error> {
        let asking = if self.may_ask() { asking } else { Asking::No };
        for _ in 0..LOGINS {
            let plan = self.plan(identity)?;
            let Plan { chain: Chain { source, .. }, calls, .. } = &plan;
            match (self.follow(&plan, identity, region, asking).await, source) {
                (Err(Error::SsoSessionOver { profile, .. }), Source::Sso(settings)) if asking == Asking::Allowed => {
                    let config = calls.anonymous("sso_oidc", &settings.region);
                    self.logins.sso(&profile, settings.clone(), config, &self.interaction).await?;
                }
                (Err(Error::ConsoleSessionOver { profile, .. }), Source::Console(session))
                    if asking == Asking::Allowed =>
                {
                    self.logins.console(&profile, session, &self.interaction).await?;
                }
                (outcome, _) => return outcome.map(|credentials| (credentials, plan.mark())),
            }
        }
        let plan = self.plan(identity)?;
        let credentials = self.follow(&plan, identity, region, Asking::No).await?;
        Ok((credentials, plan.mark()))
    }

    fn plan(&self, identity: &Identity) -> Result<Plan, Error> {
        // Before the files are read, so that a change in between is noticed later.
        let stamp = Stamp::of(&Paths::of(&Environment::Process));
        let profiles = Profiles::read(Environment::Process, identity.profile.as_deref())?;
        let (chain, calls) = (profiles.chain()?, Calls::of(&profiles, &self.clients)?);
        Ok(Plan { profiles, chain, calls, stamp })
    }

    /// Whether the files have other content than when credentials were made. Files that cannot be used do not count as changed,
    /// because they may be half written.
    pub(super) fn has_changed(identity: &Identity, mark: &mut Mark) -> bool {
        let stamp = Stamp::of(&Paths::of(&Environment::Process));
        if stamp == mark.stamp {
            return false;
        }
        let chain =
            Profiles::read(Environment::Process, identity.profile.as_deref()).and_then(|profiles| profiles.chain());
        match chain {
            Ok(chain) if chain == mark.chain => {
                mark.stamp = stamp;
                false
            }
            Ok(_) => true,
            Err(error) => {
                if mark.unusable.as_ref() != Some(&stamp) {
                    tracing::warn!(cause = %error, "the AWS files have changed and cannot be used; keeping the credentials");
                    mark.unusable = Some(stamp);
                }
                false
            }
        }
    }

    async fn follow(
        &self,
        plan: &Plan,
        identity: &Identity,
        region: &Region,
        asking: Asking,
    ) -> Result<Credentials, Error> {
        let Plan { profiles, chain, calls, .. } = plan;
        let mut steps: Vec<Step> = chain.roles.iter().map(|role| Step::of_profile(role, identity)).collect();
        let inherited = chain.mfa_serial.clone().filter(|_| steps.is_empty() && !identity.roles.is_empty());
        steps.extend(identity.roles.iter().map(|role| Step::of_target(role.as_str(), identity)));
        // A role has no MFA device, so the device belongs to the user at the beginning of the chain.
        let device = identity.mfa_serial.clone().or(inherited);
        if let (Some(first), Some(device)) = (steps.first_mut(), &device) {
            first.device = Some(device.clone());
        }
        let work = async {
            let session_name = identity.session_name.as_str();
            let mut credentials = provide(chain, profiles, calls, region, session_name).await?;
            let config = calls.anonymous("sts", region);
            if let (true, Some(device)) = (steps.is_empty(), device) {
                let device = Device::new(device, identity);
                return Ok(self.devices.session(&config, &credentials, &device, asking).await?.credentials);
            }
            for step in &steps {
                credentials = self.take(step, identity, &config, credentials, asking).await?;
            }
            Ok(credentials)
        };
        let mut credentials = work.with_subscriber(NoSubscriber::default()).await?;
        credentials.set_property(Origin {
            place: if steps.is_empty() { chain.source.words() } else { "an assumed role" },
            profile: chain.profile.is_some().then(|| profiles.in_use()),
        });
        Ok(credentials)
    }

    /// Assumes a role, with a code of its MFA device if it has one.
    async fn take(
        &self,
        step: &Step,
        identity: &Identity,
        config: &SdkConfig,
        credentials: Credentials,
        asking: Asking,
    ) -> Result<Credentials, Error> {
        let Some(device) = &step.device else { return step.assume(config, credentials, None).await };
        let device = Device::new(device.clone(), identity);
        // GetSessionToken accepts long-term keys only; with other credentials, AssumeRole gets the code itself.
        if credentials.session_token().is_some() {
            let code = self.devices.code(&device, None, asking).await?;
            return step.assume(config, credentials, Some((&device.serial, &code))).await;
        }
        let session = self.devices.session(config, &credentials, &device, asking).await?;
        match step.assume(config, session.credentials, None).await {
            // A role may require a newer code than that of our session (aws:MultiFactorAuthAge).
            Err(Error::RoleDenied { .. }) if session.age > FRESH && asking == Asking::Allowed => {
                self.devices.forget(&credentials, &device).await;
                let session = self.devices.session(config, &credentials, &device, asking).await?;
                step.assume(config, session.credentials, None).await
            }
            outcome => outcome,
        }
    }
}

impl Plan {
    fn mark(self) -> Mark {
        Mark { stamp: self.stamp, chain: self.chain, unusable: None }
    }
}
