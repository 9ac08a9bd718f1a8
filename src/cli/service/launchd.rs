//! An agent of launchd: launchd.plist(5). Only macOS has it.

use std::{fmt::Write as _, path::Path};

use super::plan::{Job, MARK, Service, words};
use crate::quote;

const LABEL: &str = "rdsgate.up";

/// The agent in the home folder.
pub(super) fn service(home: &Path) -> Service {
    let path = home.join("Library/LaunchAgents").join(format!("{LABEL}.plist"));
    let domain = format!("gui/{}", rustix::process::getuid().as_raw());
    let mut start = words(&format!("launchctl bootstrap {domain}"));
    start.push(path.display().to_string());
    Service {
        start: vec![start],
        stop: vec![words(&format!("launchctl bootout {domain}/{LABEL}"))],
        forget: Vec::new(),
        show: words(&format!("launchctl print {domain}/{LABEL}")),
        write: agent,
        path,
    }
}

fn agent(job: &Job) -> String {
    let mut arguments = String::new();
    for word in std::iter::once(&job.program.display().to_string()).chain(&job.arguments) {
        let _ = writeln!(arguments, "    <string>{}</string>", quote::xml(word));
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!-- {MARK} -->\n\
         <plist version=\"1.0\">\n<dict>\n  \
         <key>Label</key><string>{LABEL}</string>\n  \
         <key>ProgramArguments</key>\n  <array>\n{arguments}  </array>\n  \
         <key>WorkingDirectory</key><string>{}</string>\n  \
         <key>RunAtLoad</key><true/>\n  \
         <key>KeepAlive</key><dict><key>SuccessfulExit</key><false/></dict>\n  \
         <key>ExitTimeOut</key><integer>90</integer>\n  \
         <key>Umask</key><integer>63</integer>\n\
         </dict>\n</plist>\n",
        quote::xml(&job.folder.display().to_string()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_keeps_every_word_as_it_is() {
        let agent = agent(&super::super::plan::example());
        for text in [
            "    <string>/opt/my tools/rdsgate</string>\n    <string>up</string>\n",
            "<string>50% &quot;of&quot; $HOME\\n &amp; &lt;more&gt;</string>",
            "<key>WorkingDirectory</key><string>/home/ada/100%</string>",
        ] {
            assert!(agent.contains(text), "{text}: {agent}");
        }
    }
}
