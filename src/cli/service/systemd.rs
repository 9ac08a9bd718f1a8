//! A user unit of systemd: systemd.service(5), systemd.exec(5).

use std::path::Path;

use super::plan::{Job, MARK, Service, words};

const NAME: &str = "rdsgate.service";

/// The unit below `$XDG_CONFIG_HOME`.
pub(super) fn service(config_home: &Path) -> Service {
    let of = |commands: &[&str]| commands.iter().map(|command| words(&format!("systemctl --user {command}"))).collect();
    Service {
        path: config_home.join("systemd/user").join(NAME),
        start: of(&["daemon-reload", "enable rdsgate.service", "restart rdsgate.service"]),
        stop: of(&["disable --now rdsgate.service"]),
        forget: of(&["daemon-reload"]),
        show: words("systemctl --user --no-pager status rdsgate.service"),
        write: unit,
    }
}

/// The text of the unit. Options that need a user namespace are missing, because the kernel does not know the owner of a client there, and
/// those that would break a `credential_process`, such as one that compiles at run time.
fn unit(job: &Job) -> String {
    let program = [job.program.display().to_string()];
    let command: Vec<String> = program.iter().chain(&job.arguments).map(|word| quoted(word)).collect();
    format!(
        "# {MARK}\n\
         [Unit]\n\
         Description=Local doors to RDS databases (rdsgate up)\n\
         \n\
         [Service]\n\
         Type=notify\n\
         ExecStart={}\n\
         ExecReload=/bin/kill -HUP $MAINPID\n\
         WorkingDirectory=-{}\n\
         Restart=on-failure\n\
         RestartSec=5\n\
         # A configuration that is wrong does not become right by itself.\n\
         RestartPreventExitStatus=2\n\
         SuccessExitStatus=129 130 143\n\
         WatchdogSec=30\n\
         # More than the delays of SIGTERM together, see docs/operations.md.\n\
         TimeoutStopSec=90\n\
         KillMode=mixed\n\
         UMask=0077\n\
         NoNewPrivileges=yes\n\
         LockPersonality=yes\n\
         RestrictRealtime=yes\n\
         RestrictSUIDSGID=yes\n\
         SystemCallArchitectures=native\n\
         RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n",
        command.join(" "),
        job.folder.display().to_string().replace('%', "%%"),
    )
}

/// One word of a command line of a unit: systemd.service(5), "Command lines".
fn quoted(word: &str) -> String {
    let mut quoted = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '%' | '$' => quoted.extend([c, c]),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_keeps_every_word_as_it_is() {
        let unit = unit(&super::super::plan::example());
        let line = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        assert_eq!(
            line("ExecStart="),
            r#""/opt/my tools/rdsgate" "up" "--reload-on-hup" "orders" "--reason" "50%% \"of\" $$HOME\\n & <more>""#
        );
        assert_eq!(line("WorkingDirectory="), "-/home/ada/100%%");
        assert!(unit.starts_with(&format!("# {MARK}\n")));
    }
}
