//! Facts from AWS about a failure.

use std::time::SystemTime;

use super::stage::Stage;
use crate::{
    aws::{
        Principal,
        nodes::{self, Node},
        rds::Database,
    },
    connect::Step,
    target::{Route, Target},
};

/// Facts AWS gave about a failure. `None`: no answer within the timeout.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Our IAM principal.
    pub principal: Option<Principal>,
    /// The database as RDS describes it.
    pub database: Option<Database>,
    /// The bastion as Systems Manager describes it; `Some(None)` when it does not know it.
    pub bastion: Option<Option<Node>>,
}

impl Facts {
    /// The fact of RDS about the database that explains a failure in `stage`.
    pub(super) fn of_database(&self, stage: Stage, target: &Target) -> Option<String> {
        let database = self.database.as_ref()?;
        let id = &database.id;
        if !["available", ""].contains(&database.status.as_str()) {
            return Some(format!("RDS says that {id} is {}.", database.status));
        }
        if let (Stage::Connect(Step::Answer), Some(engine)) = (stage, database.protocol())
            && engine != target.engine
        {
            return Some(format!("RDS says that {id} runs {engine}, not {}.", target.engine));
        }
        match (stage, database.port) {
            (Stage::Connect(Step::Answer), Some(port)) if port != target.endpoint.port => {
                Some(format!("RDS says that the port of {id} is {port}, not {}.", target.endpoint.port))
            }
            (Stage::Connect(Step::Login), _) if database.iam == Some(false) => {
                Some(format!("IAM database authentication is disabled on {id}."))
            }
            _ => None,
        }
    }

    /// The fact of Systems Manager about a bastion that is not connected.
    pub(super) fn of_bastion(&self, target: &Target) -> Option<String> {
        let (Route::Ssm(id) | Route::Auto(id)) = &target.route else { return None };
        match self.bastion.as_ref()? {
            None => Some(format!("Systems Manager does not know {id} in {} with these credentials.", target.region)),
            Some(node) if node.online => Some(format!("{id} is online now: connect again.")),
            Some(node) => {
                let silence = SystemTime::now().duration_since(node.last_ping?).unwrap_or_default();
                Some(format!("The SSM agent of {id} was last heard of {}.", nodes::ago(silence)))
            }
        }
    }
}
