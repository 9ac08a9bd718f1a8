//! Whether the local addresses can be listened on, a port on both loopback addresses, and whether the local password can be used.

use std::path::Path;

use super::{
    report::{Check, Finding},
    run::{CALL_TIMEOUT, Run},
};
use crate::{
    listen::{self, Address},
    local_password,
    target::{ListenAddress, Target},
};

pub(super) async fn check(run: &Run, target: &Target, port_of_another: Option<&str>) {
    let work = async {
        let finding = match port_of_another {
            Some(served) => port_in_use(Finding::fail(served)),
            None => return (addresses(target).await, Some(())),
        };
        (vec![finding], Some(()))
    };
    run.check(Check::Port, CALL_TIMEOUT, work).await;
}

async fn addresses(target: &Target) -> Vec<Finding> {
    let mut findings = Vec::new();
    for address in &target.listen {
        findings.push(match address {
            Address::Tcp(listen) => port(listen, address).await,
            Address::Unix(path) => socket(path, address).await,
        });
    }
    findings.extend(target.local_password_file.as_deref().map(password));
    findings
}

fn password(file: &Path) -> Finding {
    match local_password::read(file) {
        Ok(_) => Finding::pass(format!("clients need the local password in {}", file.display())),
        Err(error) => {
            let finding = Finding::fail(error.to_string());
            match error.hint() {
                Some(hint) => finding.fix(hint),
                None => finding,
            }
        }
    }
}

async fn port(listen: &ListenAddress, address: &Address) -> Finding {
    let addresses = listen.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    // Bound and let go at once, exactly as rdsgate up would.
    match listen::bind(address).await {
        Ok(_) if listen.is_any_port() => Finding::pass(format!("the system chooses a free one on {addresses}")),
        Ok(_) => Finding::pass(format!("{} is free on {addresses}", listen.port)),
        Err(listen::Error::PortTaken { address, owner }) => {
            let fact = format!("{address} is taken by {owner}");
            if owner.is_rdsgate() {
                return Finding::pass(format!("{fact}, which may be serving this target"));
            }
            port_in_use(Finding::fail(fact))
        }
        Err(error) => Finding::fail(error.to_string()).fix("choose another address or port with --listen".to_owned()),
    }
}

async fn socket(path: &Path, address: &Address) -> Finding {
    let folder = path.parent().unwrap_or(Path::new("/"));
    if !folder.exists() {
        return Finding::pass(format!("rdsgate makes {} for its socket", folder.display()));
    }
    match listen::bind(address).await {
        Ok(_) => Finding::pass(format!("{} is free", path.display())),
        Err(listen::Error::PathTaken { owner, .. }) if owner.is_rdsgate() => {
            let fact = format!("{} is taken by {owner}", path.display());
            Finding::pass(format!("{fact}, which may be serving this target"))
        }
        Err(error) => {
            let hint = error.hint("--listen");
            Finding::fail(error.to_string()).fix(hint)
        }
    }
}

fn port_in_use(finding: Finding) -> Finding {
    finding
        .because("clients of this port would reach that program, on either loopback address")
        .fix("stop that program, or choose another port with --listen (0 takes a free one)".to_owned())
}
