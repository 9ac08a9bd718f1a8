//! A server whose certificate is wrong is not spoken to, and the user reads all that is needed to see why: subject, issuer,
//! the name expected, the names found and the dates.

use crate::support::{
    gate::{Gate, sandbox},
    refusal::Refusal,
    servers::{PgOptions, PgServer, Variant},
};

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_certificate_is_refused_with_its_facts_and_right_ones_are_accepted() {
    let server = PgServer::start(&PgOptions { certificate: Some(Variant::Expired), ..PgOptions::default() });
    let sandbox = sandbox(&server).await;
    let gate = Gate::start(&server, &sandbox).await;
    let host = &server.rds_host;
    let other_name = host.replacen("orders.c1abcdefghij", "otherdb.c9zyxwvutsrq", 1);
    let (from, until) = ("2025-01-01T00:00:00Z", "2035-01-01T00:00:00Z");
    for (variant, reason, issuer, names, dates, hint) in [
        (
            Variant::Expired,
            "has expired on 2024-01-01T00:00:00Z, and it is 20",
            "Subordinate CA RSA2048 G1.A.1",
            host.as_str(),
            ("2020-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
            "must be rotated",
        ),
        (
            Variant::NotYet,
            "is not valid before 2034-01-01T00:00:00Z, and it is 20",
            "Subordinate CA RSA2048 G1.A.1",
            host,
            ("2034-01-01T00:00:00Z", until),
            "clock",
        ),
        (
            Variant::WrongHost,
            "it is for other names",
            "Subordinate CA RSA2048 G1.A.1",
            &other_name,
            (from, until),
            "endpoint name that AWS shows",
        ),
        (Variant::CnOnly, "it names no host", "Subordinate CA RSA2048 G1.A.1", "none", (from, until), "alias"),
        (
            Variant::OtherCa,
            "CN=TEST ONLY Root CA SOMEBODY ELSE, which is not trusted",
            "Subordinate CA SOMEBODY ELSE.A.1",
            host,
            (from, until),
            "ca_file",
        ),
        (
            Variant::NoIntermediate,
            "an intermediate may be missing",
            "Subordinate CA RSA2048 G1.A.1",
            host,
            (from, until),
            "ca_file",
        ),
        (Variant::SelfSigned, "it is self-signed", host, host, ("20", "20"), "ca_file"),
        (
            Variant::ClientOnly,
            "it is not meant for a server",
            "Subordinate CA RSA2048 G1.A.1",
            host,
            (from, until),
            "not an RDS server",
        ),
    ] {
        server.certificate(variant);
        let refusal = Refusal::of(&gate).await;
        refusal.says("08004", &format!("the certificate for {host} was refused: "), "Stage: TLS.", hint);
        refusal.is_soon();
        let (_, facts) = refusal.message.split_once(" (subject ").unwrap_or_else(|| panic!("{variant}: {refusal:#?}"));
        assert!(refusal.message.contains(reason), "{variant}: {refusal:#?}");
        assert!(facts.starts_with(&format!("CN={host}")), "{variant}: {refusal:#?}");
        let (subject_and_issuer, rest) = facts.split_once(", name expected ").expect("that follows");
        assert!(
            subject_and_issuer.contains(", issuer ") && subject_and_issuer.ends_with(issuer),
            "{variant}: {refusal:#?}"
        );
        let (from, until) = dates;
        let expected = format!("{host}, names found {names}, valid from {from}");
        assert!(rest.starts_with(&expected) && rest.contains(&format!(" to {until}")), "{variant}: {refusal:#?}");
    }
    assert_eq!(server.auth_lines(), Vec::<String>::new(), "none of them saw a token");

    for variant in [Variant::Wildcard, Variant::Good] {
        server.certificate(variant);
        assert_eq!(gate.query("select current_user").await, "app_user", "{variant}");
    }
}
