//! How the credentials of an [`Identity`] are made, each time from the start:
//!
//! ```text
//!   files, variables ─▶ chain (`profiles`) ─▶ keys, SSO, aws login, credential_process, web identity, ECS, EC2 (`provide`)
//!                                               │  session over: log in (`sso`), or wait until somebody has
//!                                               ▼
//!                        MFA device ─▶ GetSessionToken (`mfa`) ─▶ AssumeRole, once for each role ─▶ credentials
//! ```
//!
//! Files are read each time, so that what changed in the meantime (`aws sso login`, new keys) counts, and [`Mark`] says whether
//! they have changed since.

use std::{sync::Arc, time::Duration};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{
    Error,
    calls::Calls,
    credentials::Asking,
    http::Clients,
    interaction::Interaction,
    mfa::{Device, Devices},
    profiles::{Chain, Environment, Paths, Profiles, Role, Source, Stamp},
    provide::provide,
    source::Origin,
    sso::Logins,
};
use crate::target::{Identity, MfaCode, MfaSerial, Region};

/// Logins that are tried for one fetch: that of a profile, and once more if it was already over when it came.
const LOGINS: usize = 2;
/// No role wants a code that is younger than this: one that is denied is denied for another reason.
const FRESH: Duration = Duration::from_mins(15);

/// Makes credentials. What identities have in common is kept here: HTTP clients, codes, MFA sessions, logins.
pub(super) struct Issuer {
    clients: Clients,
    interaction: Interaction,
    devices: Devices,
    logins: Logins,
}

/// What the files said when credentials were made, to be compared with what they say now.
pub(super) struct Mark {
    stamp: Stamp,
    chain: Chain,
    /// How the files looked when they could not be used, which was logged then.
    unusable: Option<Stamp>,
}

/// A role to assume.
pub(super) struct Step {
    pub(super) arn: String,
    pub(super) external_id: Option<String>,
    pub(super) session_name: String,
    /// Seconds; `None` is STS's hour.
    pub(super) duration: Option<i32>,
    device: Option<MfaSerial>,
}

/// What the files and variables say at one time.
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

    /// Whether somebody can be asked.
    pub(super) fn may_ask(&self) -> bool {
        self.interaction.is_there()
    }

    /// Makes credentials, with a person's help where that is allowed and needed. May take as long as that person does.
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
        // Before the files are read: a change in between is noticed later.
        let stamp = Stamp::of(&Paths::of(&Environment::Process));
        let profiles = Profiles::read(Environment::Process, identity.profile.as_deref())?;
        let (chain, calls) = (profiles.chain()?, Calls::of(&profiles, &self.clients)?);
        Ok(Plan { profiles, chain, calls, stamp })
    }

    /// Whether the files say something else now than when credentials were made. Those that cannot be used at the moment do
    /// not: they may be half written.
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
        // A role has no device, so it is the user at the beginning whose device counts.
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

    /// Assumes a role, with its device's help if it has one.
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
        // Only keys that do not end can be made into a session; others bring the code along.
        if credentials.session_token().is_some() {
            let code = self.devices.code(&device, None, asking).await?;
            return step.assume(config, credentials, Some((&device, &code))).await;
        }
        let session = self.devices.session(config, &credentials, &device, asking).await?;
        match step.assume(config, session.credentials, None).await {
            // A role may want a code that is younger than our session (aws:MultiFactorAuthAge). Others may be content with it.
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

impl Step {
    fn of_profile(role: &Role, identity: &Identity) -> Self {
        Self {
            arn: role.arn.as_str().into(),
            external_id: role.external_id.as_ref().map(|id| id.as_str().to_owned()),
            session_name: role.session_name.as_deref().unwrap_or(identity.session_name.as_str()).into(),
            duration: role.duration,
            device: role.mfa_serial.clone(),
        }
    }

    fn of_target(arn: &str, identity: &Identity) -> Self {
        Self {
            arn: arn.into(),
            external_id: identity.external_id.as_ref().map(|id| id.as_str().to_owned()),
            session_name: identity.session_name.as_str().into(),
            duration: None,
            device: None,
        }
    }
}
