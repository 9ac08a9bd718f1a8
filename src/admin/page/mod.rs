//! The page of `GET /`: the model of `/status` for eyes. It is complete without its script, which asks for the page again every two
//! seconds and puts the changed parts in place.
//!
//! Style and script are inside the document, and the policy names both by their hashes. Nothing else can be loaded or run.

mod chart;
mod html;
mod policy;
mod words;

pub(super) use self::policy::POLICY;
use self::{
    html::Html,
    policy::{SCRIPT, STYLE},
    words::{Level, Notice, Summary, bytes, counted, duration},
};
use super::model::{ClientStatus, CredentialsStatus, FailureStatus, Phase, SessionStatus, Status, TargetStatus};

/// Rows of a table. Further ones are counted.
const MAX_ROWS: usize = 100;

/// A form in which a program takes the address of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form {
    /// The name of the program or the library.
    pub(super) name: &'static str,
    /// The use of the text, where its name does not say it. Such a text has several lines.
    pub(super) use_as: Option<&'static str>,
    /// The text to copy.
    pub(super) text: String,
}

/// The document. `forms` has those of each target, or the reason why they cannot be written.
pub(super) fn render(status: &Status, forms: &[Result<Vec<Form>, String>]) -> String {
    let notices: Vec<Vec<Notice>> = status.targets.iter().map(words::notices).collect();
    let levels: Vec<Level> = notices.iter().map(|notices| words::level(notices)).collect();
    let mut html = Html::default();
    head(&mut html, status, &levels);
    header(&mut html, status, &levels);
    html.markup("<main id=\"main\" tabindex=\"-1\">");
    let targets = status.targets.iter().zip(&notices).zip(forms);
    for (index, ((target, notices), forms)) in targets.enumerate() {
        section(&mut html, &format!("t{index}"), status.phase, target, notices, forms);
    }
    html.markup("</main><footer>Other programs read <a href=\"/status\">/status</a> and <a href=\"/metrics\">/metrics</a>.</footer>");
    html.markup("</div><p id=\"said\" class=\"unseen\" role=\"status\"></p><script>").markup(SCRIPT);
    html.markup("</script></body></html>\n");
    html.finish()
}

fn head(html: &mut Html, status: &Status, levels: &[Level]) {
    html.markup("<!DOCTYPE html><html lang=\"en\"")
        .attribute("data-process", format_args!("{} {}", status.pid, status.version));
    html.markup(
        "><head><meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>",
    );
    html.markup("<meta name=\"color-scheme\" content=\"light dark\"/><noscript><meta http-equiv=\"refresh\" content=\"10\"/></noscript>");
    html.markup(
        "<link rel=\"icon\" href=\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath fill='%230b6e99' d='M3 1h10v14H3z'/%3E%3Ccircle cx='10' cy='8' r='1.5' fill='%23fff'/%3E%3C/svg%3E\"/>",
    );
    html.markup("<title>").text(title(status, levels)).markup("</title><style>").markup(STYLE);
    html.markup("</style></head><body><p id=\"link\" role=\"alert\"></p><div id=\"page\"");
    html.attribute("data-phase", phase(status.phase))
        .markup("><a class=\"skip\" href=\"#main\">Skip to the targets</a>");
}

/// For the tab: the state comes first, because tabs are narrow.
fn title(status: &Status, levels: &[Level]) -> String {
    let names: Vec<&str> = status.targets.iter().map(|target| target.name.as_str()).collect();
    let names = names.join(", ");
    match (status.phase, levels.iter().max()) {
        (Phase::Starting, _) => "starting – rdsgate".into(),
        (Phase::Draining, _) => format!("shutting down – {names} – rdsgate"),
        (Phase::Running, Some(Level::Problem)) => format!("✖ {names} – rdsgate"),
        (Phase::Running, Some(Level::Attention)) => format!("▲ {names} – rdsgate"),
        (Phase::Running, _) => format!("{names} – rdsgate"),
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Draining => "draining",
    }
}

fn header(html: &mut Html, status: &Status, levels: &[Level]) {
    html.markup("<header><h1>rdsgate</h1><p class=\"quiet\"><code>rdsgate ")
        .text(&status.command)
        .markup("</code>, version ");
    html.text(&status.version).markup(", process ").text(status.pid).markup(", runs for ");
    html.text(duration(status.uptime_seconds)).markup("</p><p id=\"state\" role=\"status\"");
    let level = match status.phase {
        Phase::Draining => Level::Attention,
        Phase::Starting | Phase::Running => levels.iter().copied().max().unwrap_or(Level::Fine),
    };
    html.attribute("class", level.class()).markup(">").text(Summary { status, levels }).markup("</p>");
    if status.targets.len() > 1 {
        html.markup("<nav aria-label=\"Targets\"><ul>");
        for (index, (target, level)) in status.targets.iter().zip(levels).enumerate() {
            html.markup("<li><a")
                .attribute("href", format_args!("#t{index}"))
                .markup(">")
                .text(&target.name)
                .markup("</a>");
            label(html, target);
            let (class, word) = words::sign(status.phase, *level);
            html.markup(" <span").attribute("class", format_args!("word {class}")).markup(">");
            html.text(word).markup("</span></li>");
        }
        html.markup("</ul></nav>");
    }
    html.markup("</header>");
}

/// The guard's label and its mode, as badges.
fn label(html: &mut Html, target: &TargetStatus) {
    if let Some(label) = &target.label {
        html.markup(" <strong class=\"label\">").text(label).markup("</strong>");
    }
    if target.read_only {
        html.markup(" <span class=\"badge\">read only</span>");
    }
}

fn section(
    html: &mut Html,
    id: &str,
    phase: Phase,
    target: &TargetStatus,
    notices: &[Notice],
    forms: &Result<Vec<Form>, String>,
) {
    let (class, word) = words::sign(phase, words::level(notices));
    html.markup("<section").attribute("id", id).attribute("aria-labelledby", format_args!("{id}-name"));
    let guarded = if target.label.is_some() { " guarded" } else { "" };
    html.attribute("class", format_args!("target{guarded}"))
        .markup("><div class=\"name\"><h2")
        .attribute("id", format_args!("{id}-name"));
    html.markup(">").text(&target.name);
    label(html, target);
    html.markup("</h2><p").attribute("class", format_args!("word {class}")).markup(">").text(word).markup("</p></div>");
    if !notices.is_empty() {
        html.markup("<ul class=\"notices\">");
        for notice in notices {
            write_notice(html, notice);
        }
        html.markup("</ul>");
    }
    html.markup("<div class=\"columns\"><div>");
    connect(html, id, target, forms);
    html.markup("</div><div><h3>Throughput</h3>");
    chart::write(html, &format!("{id}-chart"), target);
    html.markup("<h3>Database</h3>");
    facts(html, target);
    html.markup("</div></div>");
    clients(html, id, target);
    sessions(html, id, target);
    html.markup("</section>");
}

fn write_notice(html: &mut Html, notice: &Notice) {
    html.markup("<li").attribute("class", notice.level.class()).markup("><p>").text(&notice.text).markup("</p>");
    if let Some(detail) = &notice.detail {
        html.markup("<p>").text(detail).markup("</p>");
    }
    if let Some(remedy) = &notice.remedy {
        html.markup("<p class=\"remedy\"><b>What to do:</b> ").text(remedy).markup("</p>");
    }
    html.markup("</li>");
}

fn connect(html: &mut Html, id: &str, target: &TargetStatus, forms: &Result<Vec<Form>, String>) {
    html.markup("<h3>Connect</h3>");
    let forms = match forms {
        Ok(forms) => forms,
        Err(reason) => {
            html.markup("<p>").text(reason).markup("</p>");
            return;
        }
    };
    html.markup("<dl class=\"forms\">");
    for (index, form) in forms.iter().enumerate() {
        let text_id = format!("{id}-form{index}");
        html.markup("<div><dt>").text(form.name).markup("</dt><dd>");
        if let Some(use_as) = form.use_as {
            html.markup("<details><summary>").text(use_as).markup("</summary><pre><code").attribute("id", &text_id);
            html.markup(">").lines(&form.text).markup("</code></pre></details>");
        } else {
            html.markup("<code").attribute("id", &text_id).markup(">").text(&form.text).markup("</code>");
        }
        html.markup("<button type=\"button\"").attribute("data-copy", &text_id);
        html.attribute("aria-label", format_args!("Copy for {}: {}", form.name, target.name))
            .markup(">Copy</button></dd></div>");
    }
    html.markup(
        "</dl><p class=\"quiet\">No password is needed, and no TLS: rdsgate adds both on the way to the database.</p>",
    );
}

fn facts(html: &mut Html, target: &TargetStatus) {
    html.markup("<dl class=\"facts\">");
    let mut fact = |name: &'static str, value: &dyn std::fmt::Display| {
        html.markup("<div><dt>").text(name).markup("</dt><dd>").text(value).markup("</dd></div>");
    };
    fact("Endpoint", &format_args!("{}:{} ({})", target.host, target.port, target.engine));
    if let Some(user) = &target.user {
        fact("User", user);
    }
    if let Some(database) = &target.database {
        fact("Database", database);
    }
    match (&*target.route, &target.bastion) {
        ("auto", Some(bastion)) => fact("Route", &format_args!("direct, or through the bastion {bastion}")),
        (_, Some(bastion)) => fact("Route", &format_args!("through the bastion {bastion}")),
        (_, None) => fact("Route", &"direct"),
    }
    fact("Listens on", &target.listeners.join(", "));
    let profile = target.profile.as_ref().map(|profile| format!(", profile {profile}")).unwrap_or_default();
    if let Some(region) = &target.region {
        fact("Region", &format_args!("{region}{profile}"));
    }
    match &target.credentials {
        Some(credentials) => fact("Credentials", &held(credentials)),
        None => fact("Credentials", &"not needed yet"),
    }
    if let Some(FailureStatus { message, age_seconds, .. }) =
        target.last_failure.as_ref().filter(|failure| failure.over)
    {
        fact("Last failure", &format_args!("{} ago; logins have succeeded since: {message}", duration(*age_seconds)));
    }
    html.markup("</dl>");
}

fn held(credentials: &CredentialsStatus) -> String {
    let CredentialsStatus { source, principal, expires_at, expires_in_seconds } = credentials;
    let expiry = match (expires_in_seconds, expires_at) {
        (Some(0), _) => "expired".into(),
        (Some(seconds), Some(at)) => format!("valid for {}, until {at}", duration(*seconds)),
        _ => "without expiry".into(),
    };
    let principal = principal.as_ref().map(|principal| format!(", as {principal}")).unwrap_or_default();
    format!("from {source}, {expiry}{principal}")
}

/// Begins a table whose rows the style sheet stacks on a narrow screen. Roles are explicit, because stacking takes them away.
fn table(html: &mut Html, caption: &'static str, columns: &[&'static str]) {
    html.markup("<table role=\"table\"><caption><h3>")
        .markup(caption)
        .markup("</h3></caption><thead role=\"rowgroup\"><tr role=\"row\">");
    for column in columns {
        html.markup("<th role=\"columnheader\" scope=\"col\">").markup(column).markup("</th>");
    }
    html.markup("</tr></thead><tbody role=\"rowgroup\">");
}

fn row(html: &mut Html, id: &str, cells: &[(&'static str, &dyn std::fmt::Display)]) {
    html.markup("<tr role=\"row\"").attribute("id", id).markup(">");
    for (column, cell) in cells {
        html.markup("<td role=\"cell\"").attribute("data-column", column).markup(">").text(cell).markup("</td>");
    }
    html.markup("</tr>");
}

fn end_table(html: &mut Html, rows: usize) {
    html.markup("</tbody></table>");
    if let Some(more @ 1..) = rows.checked_sub(MAX_ROWS) {
        html.markup("<p class=\"quiet\">and ").text(more).markup(" more</p>");
    }
}

fn clients(html: &mut Html, id: &str, target: &TargetStatus) {
    if target.clients.is_empty() {
        html.markup("<h3>Connections</h3><p class=\"quiet\">No client is connected.</p>");
        return;
    }
    table(html, "Connections", &["Client", "User", "Database", "Age", "Received", "Sent", "SSM session"]);
    for client in target.clients.iter().take(MAX_ROWS) {
        let ClientStatus { peer, logged_in, user, database, age_seconds, .. } = client;
        let user = if *logged_in { user.as_deref().unwrap_or("–") } else { "logging in" };
        let traffic =
            |total, rate| if rate == 0 { bytes(total) } else { format!("{}, {}/s", bytes(total), bytes(rate)) };
        row(
            html,
            &format!("{id}-client{}", client.id),
            &[
                ("Client", peer),
                ("User", &user),
                ("Database", &database.as_deref().unwrap_or("–")),
                ("Age", &duration(*age_seconds)),
                ("Received", &traffic(client.received_bytes, client.received_rate)),
                ("Sent", &traffic(client.sent_bytes, client.sent_rate)),
                ("SSM session", &client.session.as_deref().unwrap_or("–")),
            ],
        );
    }
    end_table(html, target.clients.len());
}

fn sessions(html: &mut Html, id: &str, target: &TargetStatus) {
    if target.bastion.is_none() {
        return;
    }
    if target.sessions.is_empty() {
        let none = if target.sessions_opening > 0 {
            "A session is being opened."
        } else {
            "None is open. The next connection opens one."
        };
        html.markup("<h3>SSM sessions</h3><p class=\"quiet\">").text(none).markup("</p>");
        return;
    }
    table(html, "SSM sessions", &["Session", "State", "Age", "Connections", "Received", "Sent", "Not read by clients"]);
    for session in target.sessions.iter().take(MAX_ROWS) {
        let SessionStatus { id: session_id, age_seconds, condition, streams, unread_bytes, sent_rate, received_rate } =
            session;
        row(
            html,
            &format!("{id}-session-{session_id}"),
            &[
                ("Session", session_id),
                ("State", &condition.as_str()),
                ("Age", &duration(*age_seconds)),
                ("Connections", streams),
                ("Received", &format_args!("{}/s", bytes(*received_rate))),
                ("Sent", &format_args!("{}/s", bytes(*sent_rate))),
                ("Not read by clients", &bytes(*unread_bytes)),
            ],
        );
    }
    end_table(html, target.sessions.len());
    if target.sessions_opening > 0 {
        html.markup("<p class=\"quiet\">")
            .text(counted(target.sessions_opening, "further session"))
            .markup(" being opened</p>");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quick_xml::{Reader, events::Event};

    use super::*;
    use crate::admin::model::Condition;

    fn status(phase: Phase, targets: Vec<TargetStatus>) -> Status {
        Status { phase, ..Status::sample(targets) }
    }

    fn page(target: TargetStatus) -> String {
        let form = Form { name: "psql", use_as: None, text: "psql -h localhost -p 5432".into() };
        render(&status(Phase::Running, vec![target]), &[Ok(vec![form])])
    }

    fn failure(message: &str) -> FailureStatus {
        FailureStatus {
            stage: "login".into(),
            user: Some("app".into()),
            message: message.into(),
            fact: Some("RDS says: available.".into()),
            hint: Some("Grant rds_iam.".into()),
            age_seconds: 5,
            over: false,
        }
    }

    /// The elements and attributes of a document, which is well-formed XML but for its style and script.
    fn elements_and_attributes(html: &str) -> (BTreeSet<String>, BTreeSet<String>) {
        let html = html.replace(STYLE, "").replace(SCRIPT, "").replace("<!DOCTYPE html>", "");
        let mut reader = Reader::from_str(&html);
        let (mut elements, mut attributes) = (BTreeSet::new(), BTreeSet::new());
        loop {
            match reader.read_event().unwrap_or_else(|error| panic!("{error}: {html}")) {
                Event::Eof => return (elements, attributes),
                Event::Start(tag) | Event::Empty(tag) => {
                    elements.insert(tag.name().as_ref().to_owned());
                    for attribute in tag.attributes() {
                        attributes.insert(attribute.unwrap().key.as_ref().to_owned());
                    }
                }
                _ => {}
            }
        }
    }

    #[test]
    fn hostile_text_adds_no_element_and_no_attribute() {
        let mut plain = TargetStatus::sample();
        plain.last_failure = Some(failure("refused"));
        let expected = elements_and_attributes(&page(plain));

        let hostile = "\u{202e}</td></script><script>alert(1)</script><img src=x onerror='alert(1)'>\" onclick=\"alert(1) `]]>&\n\u{0}";
        let text = || hostile.to_owned();
        let mut attacked = TargetStatus::sample();
        (attacked.name, attacked.label, attacked.engine) = (text(), Some(text()), text());
        (attacked.host, attacked.user, attacked.database) = (text(), Some(text()), Some(text()));
        (attacked.region, attacked.profile, attacked.bastion) = (Some(text()), Some(text()), Some(text()));
        attacked.listeners = vec![text()];
        let client = &mut attacked.clients[0];
        (client.peer, client.user, client.database, client.session) =
            (text(), Some(text()), Some(text()), Some(text()));
        let credentials = attacked.credentials.as_mut().unwrap();
        (credentials.source, credentials.principal, credentials.expires_at) = (text(), Some(text()), Some(text()));
        attacked.sessions[0].id = text();
        let FailureStatus { stage, user, message, fact, hint, .. } = attacked.last_failure.insert(failure(hostile));
        (*stage, *user, *message, *fact, *hint) = (text(), Some(text()), text(), Some(text()), Some(text()));
        let mut status = status(Phase::Running, vec![attacked]);
        (status.version, status.command) = (text(), text());
        for forms in [Ok(vec![Form { name: "psql", use_as: None, text: text() }]), Err(text())] {
            let reason = forms.is_err();
            let html = render(&status, &[forms]);
            let found = elements_and_attributes(&html);
            if !reason {
                assert_eq!(found, expected);
            }
            assert!(found.0.is_subset(&expected.0) && found.1.is_subset(&expected.1), "{found:?}");
            assert!(!html.contains(['\u{202e}', '\u{0}']), "{html}");
        }
        assert!(expected.1.iter().all(|name| !name.starts_with("on") && name != "style"), "{expected:?}");
    }

    #[test]
    fn target_without_a_fault_is_ready_and_shows_connections_sessions_and_forms() {
        let html = page(TargetStatus::sample());
        for wanted in [
            "<title>orders – rdsgate</title>",
            "Running. The target is ready.",
            "<strong class=\"label\">PRODUCTION</strong>",
            "<code id=\"t0-form0\">psql -h localhost -p 5432</code>",
            "data-copy=\"t0-form0\" aria-label=\"Copy for psql: orders\"",
            "data-column=\"Received\">2.0 kB, 400 B/s</td>",
            "data-column=\"Age\">1 min</td>",
            "data-column=\"State\">ready</td>",
            "Throughput of orders in the last 10 min",
            "valid for 10 min, until 2026-09-21T14:13:20Z",
        ] {
            assert!(html.contains(wanted), "{wanted}: {html}");
        }
        assert!(!html.contains("class=\"notices\""), "{html}");
    }

    #[test]
    fn broken_target_is_described_with_cause_and_remedy() {
        let mut broken = TargetStatus::sample();
        broken.last_failure = Some(failure("the database refused the login"));
        broken.sessions[0].condition = Condition::Restoring;
        broken.clients[0].logged_in = false;
        broken.credentials.as_mut().unwrap().expires_in_seconds = Some(0);
        let html = page(broken.clone());
        for wanted in [
            "<title>✖ orders – rdsgate</title>",
            "Running. Problem with orders.",
            "The last connection of the user &#34;app&#34; failed 5 s ago, at the stage login: the database refused the login",
            "<p>RDS says: available.</p>",
            "<b>What to do:</b> Grant rds_iam.",
            "1 SSM session has lost its connection to AWS and is being resumed.",
            "1 client waits for a login to the database, for up to 1 min.",
            "The AWS credentials have expired.",
            "Run rdsgate login --profile dev to renew them now.",
        ] {
            assert!(html.contains(wanted), "{wanted}: {html}");
        }
        broken.last_failure.as_mut().unwrap().over = true;
        let html = page(broken);
        assert!(html.contains("5 s ago; logins have succeeded since: the database refused the login"), "{html}");
        assert!(html.contains("<title>▲ orders – rdsgate</title>"), "{html}");
    }

    #[test]
    fn each_blocked_condition_of_a_session_has_a_notice() {
        for condition in Condition::ALL {
            let mut target = TargetStatus::sample();
            target.sessions[0].condition = condition;
            let silent = matches!(condition, Condition::Ready | Condition::Draining);
            assert_eq!(words::notices(&target).is_empty(), silent, "{condition:?}");
        }
    }

    #[test]
    fn phase_is_in_title_and_state() {
        let html = render(&status(Phase::Starting, vec![]), &[]);
        assert!(html.contains("<title>starting – rdsgate</title>") && html.contains("Starting: "), "{html}");
        let html = render(&status(Phase::Draining, vec![TargetStatus::sample()]), &[Ok(vec![])]);
        assert!(html.contains("▲ Closing") && !html.contains("● Ready"), "{html}");
        assert!(
            html.contains("data-phase=\"draining\"") && html.contains("Shutting down: no new connections"),
            "{html}"
        );
    }

    #[test]
    fn policy_names_style_and_script_and_nothing_that_is_inline() {
        assert!(POLICY.starts_with("default-src 'none'; style-src 'sha256-"), "{}", *POLICY);
        assert!(!POLICY.contains("unsafe"), "{}", *POLICY);
        // The hashes are of the text between the tags.
        let html = page(TargetStatus::sample());
        assert!(
            html.contains(&format!("<style>{STYLE}</style>")) && html.contains(&format!("<script>{SCRIPT}</script>"))
        );
        assert!(!SCRIPT.contains("innerHTML") && !SCRIPT.contains("eval"));
    }

    #[test]
    fn rows_beyond_the_limit_are_counted() {
        let mut crowded = TargetStatus::sample();
        let client = crowded.clients[0].clone();
        crowded.clients = (0..MAX_ROWS as u64 + 5).map(|id| ClientStatus { id, ..client.clone() }).collect();
        let html = page(crowded);
        assert!(html.contains("and 5 more") && !html.contains("id=\"t0-client100\""), "{html}");
    }
}
