//! TLS and logins.

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::mail_server::{Act, MailServer, Security, Stage};
use super::*;

/// A certificate for `localhost`, and a folder with the authority's certificate.
fn certificate() -> (TlsAcceptor, tempfile::TempDir) {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), signed.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), folder)
}

fn credentials() -> Option<Credentials> {
    Some(Credentials { username: "monthend".to_owned(), password: SecretString::from("pass-canary") })
}

async fn send(fixture: &Fixture, address: &str, credentials: Option<Credentials>) -> (Engine, RunFacts) {
    let run = fixture.run(1).await;
    let transport = Transport::parse(address, credentials).unwrap();
    let engine = fixture.start(EngineConfig { transport, ..fixture.config() });
    drop(engine.intake().submit(fixture.messages(&run).await).await.unwrap());
    (engine, run)
}

#[tokio::test(flavor = "multi_thread")]
async fn emails_and_passwords_are_sent_over_tls() {
    for (scheme, implicit) in [("smtps", true), ("smtp", false)] {
        let (tls, folder) = certificate();
        let security = if implicit { Security::Implicit(tls) } else { Security::Starttls(tls) };
        let fixture = Fixture::with(8, MailServer::with(security).await).await;
        fixture.server.set_extensions(&["8BITMIME", "AUTH PLAIN LOGIN"]);
        let ca = folder.path().join("ca.pem").display().to_string();
        let address = format!("{scheme}://localhost:{}?caFile={ca}", fixture.server.port);
        let (engine, run) = send(&fixture, &address, credentials()).await;
        fixture.ended(&run).await;
        engine.drain(LIMIT).await.unwrap();
        assert_eq!(fixture.counts(&run).await, "SENT 8");
        let commands = fixture.server.commands();
        assert!(commands.iter().any(|line| line.contains("AUTH PLAIN ")), "{commands:?}");
        assert!(
            implicit
                || commands.iter().filter(|line| line.contains("AUTH")).all(|line| line.starts_with("TLS "))
        );
        fixture.check().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untrusted_server_gets_nothing() {
    let (tls, _folder) = certificate();
    let fixture = Fixture::with(2, MailServer::with(Security::Implicit(tls)).await).await;
    let (engine, run) =
        send(&fixture, &format!("smtps://localhost:{}", fixture.server.port), credentials()).await;
    let trouble =
        "select count(*) from consumer where trouble like '%cannot agree on TLS: invalid peer certificate%'";
    fixture.until(trouble, "1").await;
    engine.drain(LIMIT).await.unwrap();
    assert_eq!(fixture.counts(&run).await, "OPEN 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_sent_unencrypted_only_if_configured() {
    let fixture = Fixture::new(2).await;
    fixture.server.set_extensions(&["AUTH PLAIN LOGIN"]);
    let address = format!("smtp://localhost:{}", fixture.server.port);
    let (engine, run) = send(&fixture, &address, credentials()).await;
    fixture.until("select count(*) from consumer where trouble like '%no STARTTLS%'", "1").await;
    engine.drain(LIMIT).await.unwrap();
    assert!(fixture.server.commands().iter().all(|line| !line.contains("AUTH")));
    let (engine, _) = send(&fixture, &format!("{address}?tls=none"), credentials()).await;
    fixture.ended(&run).await;
    engine.drain(LIMIT).await.unwrap();
    assert_eq!(fixture.counts(&run).await, "SENT 2");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_login_fails_no_delivery() {
    let fixture = Fixture::new(5).await;
    fixture.server.set_extensions(&["AUTH LOGIN PLAIN"]);
    fixture.server.script(|step| match step.stage {
        Stage::Auth => Act::Reply("535 5.7.8 wrong password"),
        _ => Act::Accept,
    });
    let (engine, run) =
        send(&fixture, &format!("smtp://localhost:{}?tls=none", fixture.server.port), credentials()).await;
    let trouble = "select string_agg(trouble, '') from consumer where trouble is not null";
    let expected = format!("smtp://localhost:{}: the login: 535 5.7.8 wrong password", fixture.server.port);
    fixture.until(trouble, &expected).await;
    fixture.server.script(|_| Act::Accept);
    fixture.ended(&run).await;
    engine.drain(LIMIT).await.unwrap();
    assert_eq!(fixture.counts(&run).await, "SENT 5");
    fixture.check().await;
}
