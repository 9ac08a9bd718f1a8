//! The real SDK against the APIs.

use super::{client::ssm, *};

#[tokio::test]
async fn a_wrong_secret_is_told_as_aws_tells_it() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let wrong = Identity::new("AKIAIOSFODNN7EXAMPLE", "wrong", crate::sandbox::SessionToken::None, "dev");
    let error = ssm(&sandbox, &wrong).describe_instance_information().send().await.unwrap_err();
    assert_eq!(error.into_service_error().meta().code(), Some("InvalidSignatureException"));
    let known = ssm(&sandbox, &Identity::user()).describe_instance_information().send().await.unwrap();
    assert_eq!(known.instance_information_list()[0].instance_id(), Some(BASTION));
}
