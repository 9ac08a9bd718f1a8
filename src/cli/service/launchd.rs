//! An agent of launchd: launchd.plist(5). Only macOS has it.

use std::{fmt::Write as _, path::Path};

use super::plan::{Job, MARK, Service, words};
use crate::{platform::files, quote};

const LABEL: &str = "rdsgate.up";

/// The agent in the home folder.
pub(super) fn service(home: &Path) -> Service {
    let path = home.join("Library/LaunchAgents").join(format!("{LABEL}.plist"));
    let domain = format!("gui/{}", files::own_user());
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
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <!-- {MARK} -->\n\
         <plist version=\"1.0\">\n<dict>\n  \
         <key>Label</key><string>{LABEL}</string>\n  \
         <key>ProgramArguments</key>\n  <array>\n{arguments}  </array>\n  \
         <key>WorkingDirectory</key><string>{}</string>\n  \
         <key>RunAtLoad</key><true/>\n  \
         <key>KeepAlive</key><dict><key>SuccessfulExit</key><false/></dict>\n  \
         <key>StandardErrorPath</key><string>{}</string>\n  \
         <key>ExitTimeOut</key><integer>90</integer>\n  \
         <key>Umask</key><integer>63</integer>\n\
         </dict>\n</plist>\n",
        quote::xml(&job.folder.display().to_string()),
        quote::xml(&job.log.display().to_string()),
    )
}

#[cfg(test)]
mod tests {
    use quick_xml::{Reader, events::Event};

    use super::*;

    #[test]
    fn agent_is_a_property_list_with_a_value_for_each_key() {
        let agent = agent(&super::super::plan::example());
        let mut reader = Reader::from_str(&agent);
        // The elements of each open element; in a dict, keys and values take turns.
        let (mut open, mut keys): (Vec<Vec<String>>, Vec<String>) = (vec![Vec::new()], Vec::new());
        loop {
            let event = reader.read_event().unwrap();
            match &event {
                Event::Start(tag) | Event::Empty(tag) => open.last_mut().unwrap().push(tag.name().as_ref().to_owned()),
                Event::Text(text)
                    if open.iter().rev().nth(1).and_then(|tags| tags.last()).is_some_and(|tag| tag == "key") =>
                {
                    keys.push(text.to_string());
                }
                Event::End(tag) if tag.name().as_ref() == "dict" => {
                    let inside = open.last().unwrap();
                    assert!(inside.len().is_multiple_of(2), "{inside:?}");
                    assert!(
                        inside.iter().enumerate().all(|(at, tag)| (tag == "key") == at.is_multiple_of(2)),
                        "{inside:?}"
                    );
                }
                Event::Eof => break,
                _ => {}
            }
            match event {
                Event::Start(_) => open.push(Vec::new()),
                Event::End(_) => drop(open.pop()),
                _ => {}
            }
        }
        let known = "Label ProgramArguments WorkingDirectory RunAtLoad KeepAlive SuccessfulExit StandardErrorPath ExitTimeOut Umask";
        assert_eq!(keys.join(" "), known);
    }

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
